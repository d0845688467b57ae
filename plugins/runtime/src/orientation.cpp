#include "orientation.hpp"

#include <cstring>

namespace gsp {
namespace {

constexpr unsigned orientation_tag = 0x0112;
constexpr unsigned short_type = 3, long_type = 4;
constexpr std::string_view exif_prefix{"Exif\0\0", 6};
constexpr std::string_view xmp_key = "tiff:Orientation";

// Numbers within a block of bytes; 0 beyond its end.
struct Bytes {
  std::string_view text;
  bool little_endian;

  unsigned number(std::size_t at, int count) const {
    if (at > text.size() || text.size() - at < static_cast<std::size_t>(count)) return 0;
    unsigned value = 0;
    for (int i = 0; i < count; ++i) {
      const int byte = little_endian ? count - 1 - i : i;
      value = value << 8 | static_cast<unsigned char>(text[at + static_cast<std::size_t>(byte)]);
    }
    return value;
  }
};

int valid(unsigned value) { return value >= 1 && value <= 8 ? static_cast<int>(value) : 0; }

}  // namespace

int exif_orientation(std::string_view exif) {
  if (exif.substr(0, exif_prefix.size()) == exif_prefix) exif.remove_prefix(exif_prefix.size());
  const std::string_view order = exif.substr(0, 2);
  if (order != "II" && order != "MM") return 0;
  const Bytes bytes{exif, order == "II"};
  const std::size_t directory = bytes.number(4, 4);
  const unsigned entries = bytes.number(directory, 2);
  for (unsigned i = 0; i < entries; ++i) {
    const std::size_t entry = directory + 2 + std::size_t{12} * i;
    if (bytes.number(entry, 2) != orientation_tag) continue;
    const unsigned type = bytes.number(entry + 2, 2);
    if (type != short_type && type != long_type) return 0;
    return valid(bytes.number(entry + 8, type == short_type ? 2 : 4));
  }
  return 0;
}

int xmp_orientation(std::string_view xmp) {
  const auto found = xmp.find(xmp_key);
  if (found == xmp.npos) return 0;
  std::string_view rest = xmp.substr(found + xmp_key.size());
  if (rest.substr(0, 2) == "=\"") {
    rest.remove_prefix(2);
  } else if (rest.substr(0, 1) == ">") {
    rest.remove_prefix(1);
  } else {
    return 0;
  }
  return rest.empty() ? 0 : valid(static_cast<unsigned>(rest.front() - '0'));
}

Image upright(Image image, int orientation) {
  if (orientation <= 1) return image;
  const bool swaps = orientation >= 5;  // 5 to 8 turn rows into columns
  const bool from_right =
      orientation == 2 || orientation == 3 || orientation == 7 || orientation == 8;
  const bool from_bottom =
      orientation == 3 || orientation == 4 || orientation == 6 || orientation == 7;
  Image out{swaps ? image.height : image.width, swaps ? image.width : image.height, {}};
  out.pixels.resize(image.pixels.size());
  std::uint8_t* to = out.pixels.data();
  for (int y = 0; y < out.height; ++y) {
    for (int x = 0; x < out.width; ++x, to += 3) {
      const int across = swaps ? y : x, down = swaps ? x : y;
      const auto column = static_cast<std::size_t>(from_right ? image.width - 1 - across : across);
      const auto row = static_cast<std::size_t>(from_bottom ? image.height - 1 - down : down);
      std::memcpy(to, &image.pixels[(row * static_cast<std::size_t>(image.width) + column) * 3], 3);
    }
  }
  return out;
}

}  // namespace gsp
