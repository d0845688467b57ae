// A JPEG file's segments: what the pixels need, without the metadata.
#pragma once

#include <optional>
#include <string>

#include "decode.hpp"

namespace gsp {

struct JpegStream {
  int width = 0, height = 0, components = 0;
  bool progressive = false;
  int scans = 0;
  std::string pixels;                    // a JPEG stream for a decoder
  std::optional<std::string> exif, xmp;  // found before the first scan
};

// Throws Error(image), as gsp_deploy/images/jpeg.py does.
JpegStream read_jpeg(const Encoded& encoded);

}  // namespace gsp
