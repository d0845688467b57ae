#include <cstdio>
// jpeglib.h needs it before itself.
#include <jpeglib.h>

#include <csetjmp>
#include <cstring>

#include "decode.hpp"
#include "jpeg_stream.hpp"
#include "orientation.hpp"

namespace gsp {
namespace {

// libjpeg reports errors by a callback that must not return: it jumps back into read_pixels, past
// frames of C only. What has a destructor lives in its caller's frame.
struct Failure {
  jpeg_error_mgr manager;  // first, so that libjpeg's pointer to it is a pointer to this
  std::jmp_buf back;
  char message[JMSG_LENGTH_MAX];
};

void fail(j_common_ptr info) {
  auto* failure = reinterpret_cast<Failure*>(info->err);
  info->err->format_message(info, failure->message);
  std::longjmp(failure->back, 1);
}

void stay_silent(j_common_ptr, int) {}

[[noreturn]] void fail_with(j_common_ptr info, const char* message) {
  auto* failure = reinterpret_cast<Failure*>(info->err);
  std::strncpy(failure->message, message, sizeof failure->message - 1);
  std::longjmp(failure->back, 1);
}

boolean truncated(j_decompress_ptr info) {
  fail_with(reinterpret_cast<j_common_ptr>(info), "it ends too early");
}

void nothing(j_decompress_ptr) {}

void skip(j_decompress_ptr info, long count) {
  if (count <= 0) return;
  if (static_cast<std::size_t>(count) > info->src->bytes_in_buffer) truncated(info);
  info->src->next_input_byte += count;
  info->src->bytes_in_buffer -= static_cast<std::size_t>(count);
}

// Inks are stored inverted, as Adobe does: what is stored is how much light is left.
void inks_to_rgb(const std::uint8_t* cmyk, int width, std::uint8_t* rgb) {
  for (int x = 0; x < width; ++x, cmyk += 4, rgb += 3)
    for (int c = 0; c < 3; ++c) rgb[c] = static_cast<std::uint8_t>((cmyk[c] * cmyk[3] + 127) / 255);
}

struct Reader {
  jpeg_decompress_struct info{};
  jpeg_source_mgr source{};
  Failure failure{};
  Image image;
  std::vector<std::uint8_t> line;

  Reader() { info.err = jpeg_std_error(&failure.manager); }
  Reader(const Reader&) = delete;
  Reader& operator=(const Reader&) = delete;
  ~Reader() { jpeg_destroy_decompress(&info); }
};

bool read_pixels(Reader& reader) {
  jpeg_decompress_struct& info = reader.info;
  if (setjmp(reader.failure.back) != 0) return false;
  jpeg_create_decompress(&info);
  info.src = &reader.source;
  jpeg_read_header(&info, TRUE);
  const bool inks = info.num_components == 4;
  info.out_color_space = inks ? JCS_CMYK : JCS_RGB;
  jpeg_start_decompress(&info);
  Image& image = reader.image;
  image.width = static_cast<int>(info.output_width);
  image.height = static_cast<int>(info.output_height);
  const auto row = static_cast<std::size_t>(image.width) * 3;
  image.pixels.resize(row * static_cast<std::size_t>(image.height));
  if (inks) reader.line.resize(static_cast<std::size_t>(image.width) * 4);
  while (info.output_scanline < info.output_height) {
    std::uint8_t* to = &image.pixels[row * info.output_scanline];
    JSAMPROW into = inks ? reader.line.data() : to;
    jpeg_read_scanlines(&info, &into, 1);
    if (inks) inks_to_rgb(reader.line.data(), image.width, to);
  }
  return true;
}

}  // namespace

Image decode_jpeg(const Encoded& encoded) {
  const JpegStream stream = read_jpeg(encoded);
  encoded.check_size(stream.width, stream.height);
  Reader reader;
  reader.failure.manager.error_exit = fail;
  reader.failure.manager.emit_message = stay_silent;
  reader.source.next_input_byte = reinterpret_cast<const JOCTET*>(stream.pixels.data());
  reader.source.bytes_in_buffer = stream.pixels.size();
  reader.source.init_source = nothing;
  reader.source.fill_input_buffer = truncated;
  reader.source.skip_input_data = skip;
  reader.source.resync_to_restart = jpeg_resync_to_restart;
  reader.source.term_source = nothing;
  if (!read_pixels(reader)) encoded.damaged(reader.failure.message);
  return upright(std::move(reader.image), stated_orientation(stream.exif, stream.xmp));
}

}  // namespace gsp
