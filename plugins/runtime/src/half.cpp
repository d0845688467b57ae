#include "half.hpp"

#include <cmath>
#include <limits>

namespace gsp {
namespace {

constexpr int mantissa_bits = 10;
constexpr int smallest_exponent = -14;  // of a normal number
constexpr std::uint16_t infinity = 0x7c00;

}  // namespace

std::uint16_t to_half(float value) {
  const std::uint16_t sign = std::signbit(value) ? 0x8000 : 0;
  if (std::isnan(value)) return infinity | 1;
  if (std::isinf(value)) return sign | infinity;
  int exponent = 0;
  std::frexp(value, &exponent);  // value = m 2^exponent with m in [1/2, 1)
  exponent = value == 0 || exponent - 1 < smallest_exponent ? smallest_exponent : exponent - 1;
  // In steps of the format: a mantissa that rounds up to the next power carries into the exponent.
  const auto steps =
      static_cast<long>(std::nearbyint(std::ldexp(std::fabs(value), mantissa_bits - exponent)));
  const long bits = ((exponent - smallest_exponent) << mantissa_bits) + steps;
  return static_cast<std::uint16_t>(sign | (bits > infinity ? infinity : bits));
}

float from_half(std::uint16_t bits) {
  const int exponent = bits >> mantissa_bits & 31;
  const int mantissa = bits & ((1 << mantissa_bits) - 1);
  float value = 0;
  if (exponent == 31) {
    value = mantissa == 0 ? std::numeric_limits<float>::infinity()
                          : std::numeric_limits<float>::quiet_NaN();
  } else if (exponent == 0) {
    value = std::ldexp(static_cast<float>(mantissa), smallest_exponent - mantissa_bits);
  } else {
    value = std::ldexp(static_cast<float>(mantissa + (1 << mantissa_bits)),
                       exponent - 1 + smallest_exponent - mantissa_bits);
  }
  return bits & 0x8000 ? -value : value;
}

}  // namespace gsp
