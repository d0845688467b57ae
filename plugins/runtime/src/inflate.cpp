#include "inflate.hpp"

#include <zlib.h>

#include <algorithm>
#include <new>

namespace gsp {
namespace {

constexpr std::size_t first_block = 1 << 16;
constexpr int window_bits = 15;

struct Inflate {
  z_stream stream{};
  explicit Inflate(Packing packing) {
    if (inflateInit2(&stream, packing == Packing::zlib ? window_bits : -window_bits) != Z_OK)
      throw std::bad_alloc();
  }
  Inflate(const Inflate&) = delete;
  Inflate& operator=(const Inflate&) = delete;
  ~Inflate() { inflateEnd(&stream); }
};

}  // namespace

std::optional<std::vector<std::uint8_t>> unpacked(std::string_view packed, Packing packing,
                                                  std::size_t most, bool& more) {
  Inflate inflating(packing);
  z_stream& stream = inflating.stream;
  stream.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(packed.data()));
  stream.avail_in = static_cast<uInt>(packed.size());
  std::vector<std::uint8_t> out;
  int state = Z_OK;
  // Room grows with what was unpacked: a size that a header claims costs nothing by itself.
  for (std::size_t filled = 0; state != Z_STREAM_END && filled < most;) {
    const std::size_t room = std::min(most, std::max(first_block, 2 * filled));
    out.resize(room);
    stream.next_out = out.data() + filled;
    stream.avail_out = static_cast<uInt>(room - filled);
    state = inflate(&stream, Z_SYNC_FLUSH);
    if (state != Z_OK && state != Z_BUF_ERROR && state != Z_STREAM_END) return std::nullopt;
    filled = room - stream.avail_out;
    if (stream.avail_out != 0) {
      out.resize(filled);
      break;
    }
  }
  more = state != Z_STREAM_END && stream.avail_in != 0;
  return out;
}

}  // namespace gsp
