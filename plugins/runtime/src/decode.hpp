// The two formats; `decode_image` chooses by the first bytes. docs/image-decoding.md has the rules,
// which gsp_deploy/images/ follows too.
#pragma once

#include <cstddef>
#include <cstdint>
#include <gsp/image.hpp>
#include <string>
#include <string_view>

namespace gsp {

struct Encoded {
  std::string_view bytes;
  const std::string& name;

  [[noreturn]] void damaged(const std::string& reason) const;
  void check_size(std::int64_t width, std::int64_t height) const;  // refuses too many pixels
};

Image decode_jpeg(const Encoded& encoded);
Image decode_png(const Encoded& encoded);

// Numbers of a file, the most significant byte first; the caller knows that they are there.
inline unsigned byte_at(std::string_view bytes, std::size_t at) {
  return static_cast<unsigned char>(bytes[at]);
}
inline unsigned big_endian_16(std::string_view bytes, std::size_t at) {
  return byte_at(bytes, at) << 8 | byte_at(bytes, at + 1);
}
inline std::uint32_t big_endian_32(std::string_view bytes, std::size_t at) {
  return std::uint32_t{big_endian_16(bytes, at)} << 16 | big_endian_16(bytes, at + 2);
}
inline bool starts_with(std::string_view text, std::string_view start) {
  return text.substr(0, start.size()) == start;
}

}  // namespace gsp
