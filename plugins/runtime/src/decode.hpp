// The two formats; `decode_image` chooses by the first bytes.
#pragma once

#include <cstddef>
#include <cstdint>
#include <gsp/image.hpp>
#include <string>

namespace gsp {

struct Encoded {
  const std::uint8_t* bytes;
  std::size_t size;
  const std::string& name;

  [[noreturn]] void damaged(const std::string& reason) const;
  void check_size(std::int64_t width, std::int64_t height) const;  // refuses too many pixels
};

Image decode_jpeg(const Encoded& encoded);
Image decode_png(const Encoded& encoded);

}  // namespace gsp
