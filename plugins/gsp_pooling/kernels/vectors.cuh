// Sixteen bytes at a time: loads of any element type, element by element where they are unaligned.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <cstring>

#include "arguments.cuh"

namespace gsp_deploy {

__device__ __forceinline__ float to_float(float value) { return value; }
__device__ __forceinline__ float to_float(__half value) { return __half2float(value); }
__device__ __forceinline__ float to_float(__nv_bfloat16 value) { return __bfloat162float(value); }

template <typename T>
__device__ __forceinline__ T from_float(float value);
template <>
__device__ __forceinline__ float from_float<float>(float value) {
  return value;
}
template <>
__device__ __forceinline__ __half from_float<__half>(float value) {
  return __float2half_rn(value);
}
template <>
__device__ __forceinline__ __nv_bfloat16 from_float<__nv_bfloat16>(float value) {
  return __float2bfloat16_rn(value);
}

template <typename T>
constexpr int kVector = 16 / static_cast<int>(sizeof(T));

// Elements as the words that one load or store moves. As an array of 16-bit elements the compiler
// took the words apart right behind the load, and so waited for it; as words it does so at the use.
template <typename T, int kBytes = 16>
struct alignas(kBytes) Vector {
  static constexpr int kAWord = 4 / static_cast<int>(sizeof(T));
  uint32_t words[kBytes / 4];

  __device__ __forceinline__ T at(int k) const {
    const uint32_t bits = words[k / kAWord] >> (k % kAWord * kBits);
    T value;
    memcpy(&value, &bits, sizeof value);  // the lower bits come first
    return value;
  }

  // Only once an element, on words that are 0.
  __device__ __forceinline__ void put(int k, T value) {
    uint32_t bits = 0;
    memcpy(&bits, &value, sizeof value);
    words[k / kAWord] |= bits << (k % kAWord * kBits);
  }

 private:
  static constexpr int kBits = 8 * static_cast<int>(sizeof(T));
};

// Whether rows of `stride` elements from `base` on can be read by vectors.
template <typename T>
__device__ __forceinline__ bool rows_are_aligned(const T* base, int stride) {
  return reinterpret_cast<uintptr_t>(base) % 16 == 0 && stride % kVector<T> == 0;
}

// Read a vector from `source`, of which `valid` elements exist; the others become 0. Aligned rows
// have a whole number of vectors, so that there `valid` is at most 0 or at least the vector.
template <typename T>
__device__ __forceinline__ Vector<T> load_vector(const T* source, int valid, bool aligned) {
  if (aligned && valid > 0) {
    return *reinterpret_cast<const Vector<T>*>(source);
  }
  Vector<T> vector = {};
#pragma unroll
  for (int k = 0; k < kVector<T>; ++k) {
    vector.put(k, k < valid ? source[k] : from_float<T>(0.0F));
  }
  return vector;
}

__device__ __forceinline__ void store_output(void* output, size_t index, float value,
                                             DataType type) {
  if (type == DataType::kFloat32) {
    static_cast<float*>(output)[index] = value;
  } else if (type == DataType::kFloat16) {
    static_cast<__half*>(output)[index] = __float2half_rn(value);
  } else {
    static_cast<__nv_bfloat16*>(output)[index] = __float2bfloat16_rn(value);
  }
}

// A kRows x kColumns tile of a row-major matrix, in registers between global and shared memory.
template <typename T, int kRows, int kColumns>
struct TileRegisters {
  static constexpr int kVectorsARow = kColumns / kVector<T>;
  static constexpr int kSlots = kRows * kVectorsARow / kThreads;
  static_assert(kSlots * kThreads == kRows * kVectorsARow, "whole slots only");

  Vector<T> slots[kSlots];

  __device__ static int row(int slot) {
    return (static_cast<int>(threadIdx.x) + slot * kThreads) / kVectorsARow;
  }
  __device__ static int column(int slot) {
    return (static_cast<int>(threadIdx.x) + slot * kThreads) % kVectorsARow * kVector<T>;
  }

  // `rows` and `columns` are how much of the matrix is left from `corner` on; beyond it are zeros.
  __device__ void load(const T* corner, int stride, int rows, int columns, bool aligned) {
#pragma unroll
    for (int slot = 0; slot < kSlots; ++slot) {
      const int valid = row(slot) < rows ? columns - column(slot) : 0;
      const int offset = row(slot) * stride + column(slot);
      slots[slot] = load_vector(corner + offset, valid, aligned);
    }
  }
};

}  // namespace gsp_deploy
