// float16 in software: rounds to nearest, ties to even, keeps subnormals.
#pragma once

#include <cmath>
#include <cstdint>

struct __half {
  uint16_t bits;
};

inline float __half2float(__half value) {
  const int exponent = value.bits >> 10 & 0x1f;
  const int fraction = value.bits & 0x3ff;
  const float sign = value.bits & 0x8000 ? -1.0F : 1.0F;
  if (exponent == 0x1f) {
    return fraction != 0 ? NAN : sign * INFINITY;
  }
  const int whole = exponent == 0 ? fraction : fraction | 0x400;
  return sign * std::ldexp(static_cast<float>(whole), (exponent == 0 ? 1 : exponent) - 25);
}

inline __half __float2half_rn(float value) {
  const uint16_t sign = std::signbit(value) ? 0x8000 : 0;
  const float size = std::fabs(value);
  if (std::isnan(value)) {
    return {static_cast<uint16_t>(sign | 0x7e00)};
  }
  if (size >= 65520.0F) {
    return {static_cast<uint16_t>(sign | 0x7c00)};
  }
  int exponent = 0;
  std::frexp(size, &exponent);
  // Below 2^-14 the spacing stays; frexp gives 0 for 0.
  exponent = size == 0.0F || exponent < -13 ? -13 : exponent;
  // In units of the spacing; 1024 units carry into the exponent by themselves.
  const auto units = static_cast<uint16_t>(std::nearbyint(std::ldexp(size, 11 - exponent)));
  return {static_cast<uint16_t>(sign | (units + (exponent + 13) * 0x400))};
}
