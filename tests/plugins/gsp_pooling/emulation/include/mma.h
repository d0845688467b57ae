// The fragment API for 16 x 16 x 16 products. A lane holds half a row of the sums, and of the
// operands what it needs for them; products are exact in float32, sums are rounded at each step.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <type_traits>

#include "emulator.h"

namespace nvcuda::wmma {

struct matrix_a {};
struct matrix_b {};
struct accumulator {};
struct row_major {};
struct col_major {};
enum layout_t { mem_row_major, mem_col_major };

constexpr int kSide = 16;
constexpr int kHalf = 8;

inline float widen(__half value) { return __half2float(value); }
inline float widen(__nv_bfloat16 value) { return __bfloat162float(value); }

inline int own_row() { return static_cast<int>(emulation::thread_index().x) % 32 / 2; }
inline int own_column() { return static_cast<int>(emulation::thread_index().x) % 2 * kHalf; }

// The hardware asks for 32-byte alignment and for rows that keep 16 of them.
inline void check(const void* pointer, unsigned row_bytes) {
  if (reinterpret_cast<uintptr_t>(pointer) % 32 != 0 || row_bytes % 16 != 0) {
    std::fprintf(stderr, "emulation: misaligned fragment\n");
    std::exit(70);
  }
}

template <typename Use, int, int, int, typename T, typename Order = void>
struct fragment;

template <typename T, typename Order>
struct fragment<matrix_a, 16, 16, 16, T, Order> {
  float row[kSide];
};
template <typename T, typename Order>
struct fragment<matrix_b, 16, 16, 16, T, Order> {
  float columns[kSide][kHalf];
};
template <>
struct fragment<accumulator, 16, 16, 16, float> {
  float sums[kHalf];
};

inline void fill_fragment(fragment<accumulator, 16, 16, 16, float>& to, float value) {
  for (float& sum : to.sums) {
    sum = value;
  }
}

template <typename T>
void load_matrix_sync(fragment<matrix_a, 16, 16, 16, T, row_major>& to, const T* from,
                      unsigned stride) {
  check(from, stride * sizeof(T));
  for (int k = 0; k < kSide; ++k) {
    to.row[k] = widen(from[own_row() * stride + k]);
  }
}

template <typename T, typename Order>
void load_matrix_sync(fragment<matrix_b, 16, 16, 16, T, Order>& to, const T* from,
                      unsigned stride) {
  check(from, stride * sizeof(T));
  constexpr bool kRows = std::is_same_v<Order, row_major>;
  for (int k = 0; k < kSide; ++k) {
    for (int n = 0; n < kHalf; ++n) {
      const unsigned column = own_column() + n;
      to.columns[k][n] = widen(from[kRows ? k * stride + column : column * stride + k]);
    }
  }
}

template <typename T, typename Order>
void mma_sync(fragment<accumulator, 16, 16, 16, float>& to,
              const fragment<matrix_a, 16, 16, 16, T, row_major>& a,
              const fragment<matrix_b, 16, 16, 16, T, Order>& b,
              const fragment<accumulator, 16, 16, 16, float>& from) {
  for (int n = 0; n < kHalf; ++n) {
    float sum = from.sums[n];
    for (int k = 0; k < kSide; ++k) {
      sum = std::fma(a.row[k], b.columns[k][n], sum);
    }
    to.sums[n] = sum;
  }
}

inline void store_matrix_sync(float* to, const fragment<accumulator, 16, 16, 16, float>& from,
                              unsigned stride, layout_t) {
  check(to, stride * sizeof(float));
  for (int n = 0; n < kHalf; ++n) {
    to[own_row() * stride + own_column() + n] = from.sums[n];
  }
}

}  // namespace nvcuda::wmma
