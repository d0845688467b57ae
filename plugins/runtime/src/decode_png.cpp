#include <png.h>

#include <csetjmp>
#include <cstring>
#include <string_view>

#include "decode.hpp"
#include "orientation.hpp"

namespace gsp {
namespace {

// libpng reports errors by a callback that must not return: it jumps back into read_png, past
// frames of C only.
struct Reader {
  const std::uint8_t* at;
  std::size_t left;
  std::jmp_buf back;
  char message[128] = {};
};

void fail(png_structp png, png_const_charp message) {
  auto* reader = static_cast<Reader*>(png_get_error_ptr(png));
  std::strncpy(reader->message, message, sizeof reader->message - 1);
  std::longjmp(reader->back, 1);
}

void stay_silent(png_structp, png_const_charp) {}

void read_bytes(png_structp png, png_bytep to, std::size_t count) {
  auto* reader = static_cast<Reader*>(png_get_io_ptr(png));
  if (count > reader->left) png_error(png, "it ends too early");
  std::memcpy(to, reader->at, count);
  reader->at += count;
  reader->left -= count;
}

// Rows as libpng gives them: 1 to 4 channels, of 1 byte or (grey only) 2.
struct Rows {
  int channels = 0;
  int bytes = 1;
  std::vector<std::uint8_t> data;
  std::vector<png_bytep> starts;
  int width = 0, height = 0, orientation = 0;
};

int orientation_of(png_structp png, png_infop info) {
  png_uint_32 size = 0;
  png_bytep exif = nullptr;
  if (png_get_eXIf_1(png, info, &size, &exif) != 0)
    if (const int found = exif_orientation({reinterpret_cast<const char*>(exif), size}); found != 0)
      return found;
  png_textp texts = nullptr;
  const int count = png_get_text(png, info, &texts, nullptr);
  for (int i = 0; i < count; ++i)
    if (std::strcmp(texts[i].key, "XML:com.adobe.xmp") == 0) return xmp_orientation(texts[i].text);
  return 0;
}

bool read_png(const Encoded& encoded, png_structp png, png_infop info, Reader& reader, Rows& rows) {
  if (setjmp(reader.back) != 0) return false;
  png_set_read_fn(png, &reader, read_bytes);
  png_set_user_limits(png, 0x7fffffff, 0x7fffffff);  // check_size limits the product
  png_read_info(png, info);
  rows.width = static_cast<int>(png_get_image_width(png, info));
  rows.height = static_cast<int>(png_get_image_height(png, info));
  encoded.check_size(rows.width, rows.height);
  const bool grey16 =
      png_get_color_type(png, info) == PNG_COLOR_TYPE_GRAY && png_get_bit_depth(png, info) == 16;
  if (grey16) {
    rows.bytes = 2;
  } else {
    png_set_strip_16(png);
    png_set_expand(png);  // palettes, less than 8 bits, and transparency as an alpha channel
  }
  png_set_interlace_handling(png);
  png_read_update_info(png, info);
  rows.channels = png_get_channels(png, info);
  const std::size_t row = png_get_rowbytes(png, info);
  rows.data.resize(row * static_cast<std::size_t>(rows.height));
  rows.starts.resize(static_cast<std::size_t>(rows.height));
  for (std::size_t y = 0; y < rows.starts.size(); ++y) rows.starts[y] = &rows.data[y * row];
  png_read_image(png, rows.starts.data());
  png_read_end(png, info);
  rows.orientation = orientation_of(png, info);
  return true;
}

std::uint8_t on_white(unsigned value, unsigned alpha) {
  return static_cast<std::uint8_t>((value * alpha + 255 * (255 - alpha) + 127) / 255);
}

Image to_rgb(const Rows& rows) {
  Image image{rows.width, rows.height, {}};
  const auto count = static_cast<std::size_t>(rows.width) * static_cast<std::size_t>(rows.height);
  image.pixels.resize(count * 3);
  const std::uint8_t* from = rows.data.data();
  const bool colour = rows.channels >= 3, transparent = rows.channels % 2 == 0;
  for (std::size_t i = 0; i < count; ++i, from += rows.channels * rows.bytes) {
    for (int c = 0; c < 3; ++c) {
      unsigned value = from[colour ? c : 0];
      if (rows.bytes == 2) value = (from[0] * 256u + from[1] + 128) / 257;  // to the nearest
      image.pixels[i * 3 + static_cast<std::size_t>(c)] =
          transparent ? on_white(value, from[rows.channels - 1]) : static_cast<std::uint8_t>(value);
    }
  }
  return image;
}

}  // namespace

Image decode_png(const Encoded& encoded) {
  Reader reader{encoded.bytes, encoded.size, {}};
  struct Png {
    png_structp png;
    png_infop info = nullptr;
    ~Png() { png_destroy_read_struct(&png, &info, nullptr); }
  } made{png_create_read_struct(PNG_LIBPNG_VER_STRING, &reader, fail, stay_silent)};
  if (made.png == nullptr) encoded.damaged("libpng does not start");
  made.info = png_create_info_struct(made.png);
  if (made.info == nullptr) throw std::bad_alloc();
  Rows rows;
  if (!read_png(encoded, made.png, made.info, reader, rows)) encoded.damaged(reader.message);
  return upright(to_rgb(rows), rows.orientation);
}

}  // namespace gsp
