// The text chunks of a PNG file that may say which way up it was taken.
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace gsp {

constexpr std::string_view exif_key = "exif", profile_key = "Raw profile type exif",
                           xmp_key = "XML:com.adobe.xmp";

struct PngText {
  std::string_view key;  // one of the three
  std::string text;
};

// Nothing for any other chunk, and for a text that cannot be unpacked or is too long.
std::optional<PngText> png_text(std::string_view kind, std::string_view data);

// The block that ImageMagick wrote in hexadecimal, below three lines of its own.
std::optional<std::string> unpacked_profile(std::string_view text);

}  // namespace gsp
