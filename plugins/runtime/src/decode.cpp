#include "decode.hpp"

#include <gsp/error.hpp>
#include <string_view>

#include "read_file.hpp"

namespace gsp {

void Encoded::damaged(const std::string& reason) const {
  throw Error(ErrorKind::image, name + ": damaged image (" + reason + ")");
}

void Encoded::check_size(std::int64_t width, std::int64_t height) const {
  if (width < 1 || height < 1) damaged("no pixels");
  if (height > max_pixels / width)
    throw Error(ErrorKind::image, name + ": " + std::to_string(width) + "x" +
                                      std::to_string(height) + " is beyond the limit of " +
                                      std::to_string(max_pixels) + " pixels; scale it down first");
}

Image decode_image(const std::uint8_t* bytes, std::size_t size, const std::string& name) {
  const Encoded encoded{bytes, size, name};
  const std::string_view start(reinterpret_cast<const char*>(bytes), size);
  if (start.substr(0, 3) == "\xff\xd8\xff") return decode_jpeg(encoded);
  if (start.substr(0, 8) == "\x89PNG\r\n\x1a\n") return decode_png(encoded);
  throw Error(ErrorKind::image, name + ": expected a JPEG or PNG; convert it first");
}

Image decode_image(const std::filesystem::path& file) {
  const std::string bytes = read_file(file, ErrorKind::image);
  return decode_image(reinterpret_cast<const std::uint8_t*>(bytes.data()), bytes.size(),
                      file.string());
}

}  // namespace gsp
