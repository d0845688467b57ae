// IEEE 754 half precision, for graphs whose inputs or outputs are float16.
#pragma once

#include <cstdint>

namespace gsp {

std::uint16_t to_half(float value);  // to the nearest, ties to even; too large becomes infinity
float from_half(std::uint16_t bits);

}  // namespace gsp
