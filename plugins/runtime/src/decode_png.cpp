#include "decode.hpp"
#include "orientation.hpp"
#include "png_rows.hpp"

namespace gsp {
namespace {

using Byte = std::uint8_t;

Byte on_white(unsigned value, unsigned alpha) {
  return static_cast<Byte>((value * alpha + 255 * (255 - alpha) + 127) / 255);
}

// Writes the RGB of one pixel, given its samples.
class Colours {
 public:
  explicit Colours(const PngStream& stream)
      : header_(stream.header), hole_(stream.transparency.has_value()) {
    if (header_.colour == PngColour::palette)
      fill_palette(*stream.palette, stream.transparency.value_or(""));
    else if (hole_)
      for (std::size_t i = 0; i < header_.channels(); ++i)
        wanted_[i] = big_endian_16(*stream.transparency, 2 * i) & ((1u << header_.depth) - 1);
  }

  void write(const Byte* from, Byte* to) const {
    switch (header_.colour) {
      case PngColour::palette:
        for (std::size_t c = 0; c < 3; ++c) to[c] = palette_[from[0]][c];
        return;
      case PngColour::grey:
      case PngColour::colour: opaque(from, to); return;
      default: veiled(from, to);
    }
  }

 private:
  unsigned whole(const Byte* from, std::size_t channel) const {
    return header_.depth == 16 ? from[2 * channel] * 256u + from[2 * channel + 1] : from[channel];
  }

  // Grey of 16 bits goes to the nearest of 8; other channels of 16 bits give their high byte.
  Byte eight_bits(const Byte* from, std::size_t channel) const {
    const unsigned value = whole(from, channel);
    if (header_.depth < 8) return static_cast<Byte>(value * 255 / ((1u << header_.depth) - 1));
    if (header_.depth == 8) return static_cast<Byte>(value);
    return static_cast<Byte>(header_.colour == PngColour::grey ? (value + 128) / 257 : value >> 8);
  }

  void opaque(const Byte* from, Byte* to) const {
    const std::size_t channels = header_.channels();
    bool hole = hole_;
    for (std::size_t c = 0; hole && c < channels; ++c) hole = whole(from, c) == wanted_[c];
    for (std::size_t c = 0; c < 3; ++c)
      to[c] = hole ? Byte{255} : eight_bits(from, channels == 3 ? c : 0);
  }

  void veiled(const Byte* from, Byte* to) const {
    const std::size_t channels = header_.channels();
    const unsigned alpha = eight_bits(from, channels - 1);
    for (std::size_t c = 0; c < 3; ++c)
      to[c] = on_white(eight_bits(from, channels == 4 ? c : 0), alpha);
  }

  // What is beyond the palette is black.
  void fill_palette(std::string_view colours, std::string_view alphas) {
    for (std::size_t i = 0; i < 256; ++i)
      for (std::size_t c = 0; c < 3; ++c)
        palette_[i][c] = on_white(3 * i < colours.size() ? byte_at(colours, 3 * i + c) : 0,
                                  i < alphas.size() ? byte_at(alphas, i) : 255);
  }

  const PngHeader& header_;
  bool hole_;
  unsigned wanted_[3] = {};
  Byte palette_[256][3] = {};
};

}  // namespace

Image decode_png(const Encoded& encoded) {
  const PngStream stream = read_png(encoded);
  const PngHeader& header = stream.header;
  encoded.check_size(header.width, header.height);
  const std::vector<Byte> samples = png_samples(stream, encoded);
  const std::size_t count = std::size_t{header.width} * header.height;
  const std::size_t pixel = samples.size() / count;
  Image image{static_cast<int>(header.width), static_cast<int>(header.height), {}};
  image.pixels.resize(3 * count);
  const Colours colours(stream);
  for (std::size_t i = 0; i < count; ++i)
    colours.write(&samples[i * pixel], &image.pixels[3 * i]);
  return upright(std::move(image), stated_orientation(stream.exif(), stream.xmp));
}

}  // namespace gsp
