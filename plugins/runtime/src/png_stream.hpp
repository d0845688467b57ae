// A PNG file's chunks: the header, what colours mean, the packed pixels, metadata.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "decode.hpp"

namespace gsp {

enum class PngColour { grey = 0, colour = 2, palette = 3, grey_alpha = 4, colour_alpha = 6 };

// Adam7's passes, or the only one: the first column and row, and the steps.
struct PngPass {
  std::size_t left, top, across, down;
  std::size_t columns, rows;  // pixels of the pass
};

struct PngHeader {
  std::uint32_t width = 0, height = 0;
  unsigned depth = 0;
  PngColour colour = PngColour::grey;
  bool interlaced = false;

  std::size_t channels() const;
  std::size_t row_bytes(std::size_t columns) const;
  std::vector<PngPass> passes() const;  // those that have pixels
  std::size_t data_bytes() const;       // of all rows, each with the byte of its filter
};

struct PngStream {
  PngHeader header;
  std::optional<std::string> palette, transparency;
  std::vector<std::string_view> packed;
  std::optional<std::string> exif_block, profile, xmp;

  // The EXIF block: the chunk's, or else what ImageMagick wrote as text.
  std::optional<std::string> exif() const;
};

// Throws Error(image), as gsp_deploy/images/png.py does.
PngStream read_png(const Encoded& encoded);

}  // namespace gsp
