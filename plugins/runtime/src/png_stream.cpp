#include "png_stream.hpp"

#include <zlib.h>

#include <algorithm>

#include "png_text.hpp"

namespace gsp {
namespace {

constexpr std::size_t signature_size = 8, header_size = 13;

bool has_depth(unsigned colour, unsigned depth) {
  const bool whole = depth == 8 || depth == 16;
  switch (colour) {
    case 0: return whole || depth == 1 || depth == 2 || depth == 4;
    case 3: return depth == 1 || depth == 2 || depth == 4 || depth == 8;
    case 2:
    case 4:
    case 6: return whole;
    default: return false;
  }
}

bool is_letter(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); }

struct Chunk {
  std::string_view kind, data;
  bool whole = false;  // it is all there, and its checksum is right
};

class Walk {
 public:
  explicit Walk(const Encoded& encoded) : encoded_(encoded), bytes_(encoded.bytes) {}

  PngStream run() {
    take_header();
    bool pixels_over = false;
    while (const auto chunk = next()) {
      if (chunk->kind == "IEND") break;
      if (chunk->kind == "IDAT" && !pixels_over) {
        made_.packed.push_back(chunk->data);
      } else if (!made_.packed.empty()) {
        pixels_over = true;  // pixels are in one run of chunks
        take_metadata(*chunk);
      } else {
        take_before_pixels(*chunk);
      }
    }
    if (made_.packed.empty()) encoded_.damaged("it ends too early");
    if (made_.header.colour == PngColour::palette && !made_.palette)
      encoded_.damaged("it has no palette");
    return std::move(made_);
  }

 private:
  // The next chunk; nothing at the end, or before what is no chunk.
  std::optional<Chunk> next() {
    if (at_ + 8 > bytes_.size()) return std::nullopt;
    const std::size_t length = big_endian_32(bytes_, at_);
    Chunk chunk{bytes_.substr(at_ + 4, 4), bytes_.substr(at_ + 8, length)};
    for (const char c : chunk.kind)
      if (!is_letter(c)) return std::nullopt;
    const std::size_t end = at_ + 8 + length;
    chunk.whole = end + 4 <= bytes_.size();
    if (chunk.whole && chunk.kind != "IDAT") {  // the pixels are judged by unpacking them
      const auto* from = reinterpret_cast<const Bytef*>(bytes_.data() + at_ + 4);
      chunk.whole = crc32(0, from, static_cast<uInt>(length + 4)) == big_endian_32(bytes_, end);
    }
    at_ = std::min(end + 4, bytes_.size());
    return chunk;
  }

  void take_header() {
    const auto chunk = next();
    if (!chunk || chunk->kind != "IHDR" || chunk->data.size() != header_size || !chunk->whole)
      encoded_.damaged("its header is damaged");
    const std::string_view data = chunk->data;
    const unsigned depth = byte_at(data, 8), colour = byte_at(data, 9);
    const unsigned packing = byte_at(data, 10), filtering = byte_at(data, 11);
    const unsigned interlaced = byte_at(data, 12);
    if (packing != 0 || filtering != 0)
      encoded_.damaged("PNG has no packing " + std::to_string(packing) + " with filters " +
                       std::to_string(filtering));
    if (!has_depth(colour, depth) || interlaced > 1)
      encoded_.damaged("PNG has no colour type " + std::to_string(colour) + " of " +
                       std::to_string(depth) + " bits with interlacing " +
                       std::to_string(interlaced));
    made_.header = {big_endian_32(data, 0), big_endian_32(data, 4), depth,
                    static_cast<PngColour>(colour), interlaced == 1};
  }

  void take_before_pixels(const Chunk& chunk) {
    const PngColour colour = made_.header.colour;
    if (chunk.kind == "IHDR") encoded_.damaged("it has two headers");
    if (chunk.kind == "PLTE" && colour == PngColour::palette) {
      const std::size_t size = chunk.data.size();
      if (!chunk.whole || size % 3 != 0 || size < 3 || size > 768)
        encoded_.damaged("its palette is damaged");
      made_.palette = chunk.data;
    } else if (chunk.kind == "tRNS" && (colour == PngColour::grey || colour == PngColour::colour ||
                                        colour == PngColour::palette)) {
      const std::size_t least = colour == PngColour::grey     ? 2
                                : colour == PngColour::colour ? 6
                                                              : 0;
      if (!chunk.whole || chunk.data.size() < least)
        encoded_.damaged("its transparency is damaged");
      made_.transparency = chunk.data;
    } else {
      take_metadata(chunk);
    }
  }

  void take_metadata(const Chunk& chunk) {
    if (!chunk.whole) return;
    if (chunk.kind == "eXIf") {
      made_.exif_block = chunk.data;
    } else if (auto found = png_text(chunk.kind, chunk.data)) {
      auto& place = found->key == exif_key      ? made_.exif_block
                    : found->key == profile_key ? made_.profile
                                                : made_.xmp;
      place = std::move(found->text);
    }
  }

  const Encoded& encoded_;
  std::string_view bytes_;
  std::size_t at_ = signature_size;
  PngStream made_;
};

}  // namespace

std::size_t PngHeader::channels() const {
  switch (colour) {
    case PngColour::colour: return 3;
    case PngColour::grey_alpha: return 2;
    case PngColour::colour_alpha: return 4;
    default: return 1;
  }
}

std::size_t PngHeader::row_bytes(std::size_t columns) const {
  return (columns * depth * channels() + 7) / 8;
}

std::vector<PngPass> PngHeader::passes() const {
  static constexpr std::size_t adam7[7][4] = {{0, 0, 8, 8}, {4, 0, 8, 8}, {0, 4, 4, 8},
                                              {2, 0, 4, 4}, {0, 2, 2, 4}, {1, 0, 2, 2},
                                              {0, 1, 1, 2}};
  if (!interlaced) return {{0, 0, 1, 1, width, height}};
  std::vector<PngPass> made;
  for (const auto& [left, top, across, down] : adam7) {
    if (left >= width || top >= height) continue;
    made.push_back({left, top, across, down, (width - left + across - 1) / across,
                    (height - top + down - 1) / down});
  }
  return made;
}

std::size_t PngHeader::data_bytes() const {
  std::size_t total = 0;
  for (const PngPass& pass : passes()) total += pass.rows * (1 + row_bytes(pass.columns));
  return total;
}

std::optional<std::string> PngStream::exif() const {
  if (exif_block) return exif_block;
  return profile ? unpacked_profile(*profile) : std::nullopt;
}

PngStream read_png(const Encoded& encoded) { return Walk(encoded).run(); }

}  // namespace gsp
