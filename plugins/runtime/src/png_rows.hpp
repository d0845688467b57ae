// The samples of a PNG file: unpacked, filters undone, interlacing resolved.
#pragma once

#include <cstdint>
#include <vector>

#include "png_stream.hpp"

namespace gsp {

// Rows from the top, samples of 1 byte, or of 2 where the depth is 16 (high byte first); fewer
// bits are in the low bits of a byte. Throws Error(image) where pixels are missing or damaged.
std::vector<std::uint8_t> png_samples(const PngStream& stream, const Encoded& encoded);

}  // namespace gsp
