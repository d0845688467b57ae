#include "decode.hpp"

#include <gsp/error.hpp>

#include "guarded.hpp"
#include "read_file.hpp"

namespace gsp {
namespace {

Image decode(std::string_view bytes, const std::string& name) {
  const Encoded encoded{bytes, name};
  if (starts_with(bytes, "\xff\xd8\xff")) return decode_jpeg(encoded);
  if (starts_with(bytes, "\x89PNG\r\n\x1a\n")) return decode_png(encoded);
  throw Error(ErrorKind::image, name + ": expected a JPEG or PNG; convert it first");
}

void check_bytes(std::uintmax_t size, const std::string& name) {
  if (size > static_cast<std::uintmax_t>(max_file_bytes))
    throw Error(ErrorKind::image, name + ": " + std::to_string(size) +
                                      " bytes are beyond the limit of " +
                                      std::to_string(max_file_bytes) + "; scale it down first");
}

}  // namespace

void Encoded::damaged(const std::string& reason) const {
  throw Error(ErrorKind::image, name + ": damaged image (" + reason + ")");
}

void Encoded::check_size(std::int64_t width, std::int64_t height) const {
  if (width < 1 || height < 1) damaged("the image has no pixels");
  if (height > max_pixels / width)
    throw Error(ErrorKind::image, name + ": " + std::to_string(width) + "x" +
                                      std::to_string(height) + " is beyond the limit of " +
                                      std::to_string(max_pixels) + " pixels; scale it down first");
}

Image decode_image(const std::uint8_t* bytes, std::size_t size, const std::string& name) {
  return guarded(ErrorKind::image, [&] {
    if (bytes == nullptr && size != 0)
      throw Error(ErrorKind::usage, name + ": expected the bytes of an image, got a null pointer");
    check_bytes(size, name);
    return decode({reinterpret_cast<const char*>(bytes), size}, name);
  });
}

Image decode_image(const std::filesystem::path& file) {
  return guarded(ErrorKind::image, [&] {
    const std::string name = file.string();
    const std::string bytes =
        read_file(file, ErrorKind::image, static_cast<std::uintmax_t>(max_file_bytes));
    return decode(bytes, name);
  });
}

}  // namespace gsp
