#include "png_rows.hpp"

#include <cstdlib>

#include "inflate.hpp"

namespace gsp {
namespace {

using Byte = std::uint8_t;

// zlib's frame says how the pixels are packed; its checksum of them all is not looked at.
std::vector<Byte> unpacked_rows(const PngStream& stream, const Encoded& encoded) {
  std::string joined;
  if (stream.packed.size() > 1)
    for (const std::string_view part : stream.packed) joined += part;
  const std::string_view packed = stream.packed.size() == 1 ? stream.packed[0] : joined;
  if (packed.size() < 2) encoded.damaged("it ends too early");
  const unsigned method = byte_at(packed, 0), flags = byte_at(packed, 1);
  if ((method & 15) != 8 || method >> 4 > 7 || (method << 8 | flags) % 31 != 0 || (flags & 32) != 0)
    encoded.damaged("its pixels are not packed as PNG packs them");
  const std::size_t wanted = stream.header.data_bytes();
  bool more = false;
  auto rows = unpacked(packed.substr(2), Packing::deflate, wanted, more);
  if (!rows) encoded.damaged("its pixels cannot be unpacked");
  if (rows->size() < wanted) encoded.damaged("it ends too early");
  return std::move(*rows);
}

Byte paeth(int left, int above, int corner) {
  const int across = std::abs(above - corner), down = std::abs(left - corner);
  const int both = std::abs(left + above - 2 * corner);
  if (across <= down && across <= both) return static_cast<Byte>(left);
  return static_cast<Byte>(down <= both ? above : corner);
}

// Undo a row's filter in place. `above` is the row before, all zero for the first; `step` is the
// distance of what is to the left, in bytes.
bool unfilter(unsigned filter, Byte* row, const Byte* above, std::size_t size, std::size_t step) {
  const auto add = [](Byte& to, int what) { to = static_cast<Byte>(to + what); };
  switch (filter) {
    case 0: return true;
    case 1:
      for (std::size_t i = step; i < size; ++i) add(row[i], row[i - step]);
      return true;
    case 2:
      for (std::size_t i = 0; i < size; ++i) add(row[i], above[i]);
      return true;
    case 3:
      for (std::size_t i = 0; i < size; ++i)
        add(row[i], ((i < step ? 0 : row[i - step]) + above[i]) / 2);
      return true;
    case 4:
      for (std::size_t i = 0; i < size; ++i)
        add(row[i], i < step ? above[i] : paeth(row[i - step], above[i], above[i - step]));
      return true;
    default: return false;
  }
}

// Sample `index` of a row, of fewer than 8 bits.
Byte few_bits(const Byte* row, std::size_t index, unsigned depth) {
  const std::size_t bit = index * depth;
  const unsigned shift = 8 - depth - static_cast<unsigned>(bit % 8);
  return static_cast<Byte>(row[bit / 8] >> shift & ((1u << depth) - 1));
}

}  // namespace

std::vector<Byte> png_samples(const PngStream& stream, const Encoded& encoded) {
  const PngHeader& header = stream.header;
  std::vector<Byte> rows = unpacked_rows(stream, encoded);
  const std::size_t pixel = header.channels() * (header.depth == 16 ? 2 : 1);
  const std::size_t step = header.depth < 8 ? 1 : pixel;
  std::vector<Byte> samples(pixel * header.width * header.height);
  Byte* at = rows.data();
  for (const PngPass& pass : header.passes()) {
    const std::size_t size = header.row_bytes(pass.columns);
    const std::vector<Byte> nothing(size);
    const Byte* above = nothing.data();
    for (std::size_t y = 0; y < pass.rows; ++y, at += size) {
      const unsigned filter = *at++;
      if (!unfilter(filter, at, above, size, step))
        encoded.damaged("it has a filter " + std::to_string(filter) + ", expected 0 to 4");
      above = at;
      Byte* to = &samples[pixel * ((pass.top + y * pass.down) * header.width + pass.left)];
      for (std::size_t x = 0; x < pass.columns; ++x, to += pixel * pass.across)
        for (std::size_t i = 0; i < pixel; ++i)
          to[i] = header.depth < 8 ? few_bits(at, x, header.depth) : at[x * pixel + i];
    }
  }
  return samples;
}

}  // namespace gsp
