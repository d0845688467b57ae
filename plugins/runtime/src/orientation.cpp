#include "orientation.hpp"

#include <cmath>
#include <cstring>

namespace gsp {
namespace {

constexpr unsigned orientation_tag = 0x0112;
constexpr std::size_t entry_size = 12;
constexpr std::string_view exif_prefix{"Exif\0\0", 6};
constexpr std::string_view xmp_key = "tiff:Orientation";

// Numbers within a block of bytes; the caller knows that they are there.
struct Bytes {
  std::string_view text;
  bool little_endian;

  std::uint64_t number(std::size_t at, std::size_t count) const {
    std::uint64_t value = 0;
    for (std::size_t i = 0; i < count; ++i)
      value = value << 8 |
              static_cast<unsigned char>(text[at + (little_endian ? count - 1 - i : i)]);
    return value;
  }
};

// Bytes of one value, by the number of its type; 0 for a type that does not exist.
std::size_t size_of(unsigned type) {
  static constexpr std::size_t sizes[] = {0, 1, 1, 2, 4, 8, 1, 1, 2, 4, 8, 4, 8, 4, 0, 0, 8};
  return type < std::size(sizes) ? sizes[type] : 0;
}

template <typename T>
T bits_as(std::uint64_t bits) {
  T value;
  if constexpr (sizeof(T) == 4) {
    const auto narrow = static_cast<std::uint32_t>(bits);
    std::memcpy(&value, &narrow, 4);
  } else {
    std::memcpy(&value, &bits, 8);
  }
  return value;
}

long long small_whole(double value) {
  return std::isfinite(value) && value == std::floor(value) && std::abs(value) < 1e9
             ? static_cast<long long>(value)
             : 0;
}

long long quotient(long long value, long long divisor) {
  return divisor != 0 && value % divisor == 0 ? value / divisor : 0;
}

// The first value of an entry; 0 for text, and for what is no whole number.
long long whole_number(const Bytes& bytes, std::size_t at, unsigned type) {
  const auto bits = [&](std::size_t count) { return bytes.number(at, count); };
  const auto second = [&] { return bytes.number(at + 4, 4); };
  switch (type) {
    case 3: return static_cast<long long>(bits(2));
    case 4:
    case 13: return static_cast<long long>(bits(4));
    case 5: return quotient(static_cast<long long>(bits(4)), static_cast<long long>(second()));
    case 6: return static_cast<std::int8_t>(bits(1));
    case 8: return static_cast<std::int16_t>(bits(2));
    case 9: return static_cast<std::int32_t>(bits(4));
    case 10:
      return quotient(static_cast<std::int32_t>(bits(4)), static_cast<std::int32_t>(second()));
    case 11: return small_whole(static_cast<double>(bits_as<float>(bits(4))));
    case 12: return small_whole(bits_as<double>(bits(8)));
    case 16: return bits(8) < 1u << 16 ? static_cast<long long>(bits(8)) : 0;
    default: return 0;
  }
}

}  // namespace

std::optional<long long> exif_orientation(std::string_view block) {
  while (block.substr(0, exif_prefix.size()) == exif_prefix)
    block.remove_prefix(exif_prefix.size());
  const std::string_view start = block.substr(0, 4);
  const bool little = start == std::string_view("II*\0", 4) || start == std::string_view("II\0*", 4);
  const bool big = start == std::string_view("MM\0*", 4) || start == std::string_view("MM*\0", 4);
  if (block.size() < 8 || (!little && !big)) return std::nullopt;
  const Bytes bytes{block, little};
  std::size_t at = bytes.number(4, 4);
  if (at + 2 > block.size()) return std::nullopt;
  const auto entries = bytes.number(at, 2);
  at += 2;
  std::uint64_t read = 0;  // bytes of values outside their entries so far
  for (std::uint64_t i = 0; i < entries && at + entry_size <= block.size(); ++i, at += entry_size) {
    const auto type = static_cast<unsigned>(bytes.number(at + 2, 2));
    const std::uint64_t size = size_of(type) * bytes.number(at + 4, 4);
    std::size_t value = at + 8;
    if (size > 4) {
      value = bytes.number(value, 4);
      read += size;
      if (read > block.size()) continue;                         // a count that cannot be true
      if (value + size > block.size()) return std::nullopt;      // what follows is as doubtful
    }
    if (bytes.number(at, 2) == orientation_tag && size != 0)
      return whole_number(bytes, value, type);
  }
  return std::nullopt;
}

std::optional<long long> xmp_orientation(std::string_view packet) {
  for (auto at = packet.find(xmp_key); at != packet.npos; at = packet.find(xmp_key, at + 1)) {
    std::string_view rest = packet.substr(at + xmp_key.size());
    if (rest.substr(0, 2) == "=\"")
      rest.remove_prefix(2);
    else if (rest.substr(0, 1) == ">")
      rest.remove_prefix(1);
    else
      continue;
    if (!rest.empty() && rest.front() >= '0' && rest.front() <= '9') return rest.front() - '0';
  }
  return std::nullopt;
}

int stated_orientation(const std::optional<std::string>& exif,
                       const std::optional<std::string>& xmp) {
  auto found = exif ? exif_orientation(*exif) : std::nullopt;
  if (!found && xmp) found = xmp_orientation(*xmp);
  return found && *found >= 2 && *found <= 8 ? static_cast<int>(*found) : 1;
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
