// What nvcc gives to a kernel's source, for a plain C++ compiler.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <utility>

#include "cuda_runtime_api.h"

#define __host__
#define __device__
#define __global__
#define __forceinline__ inline
#define __launch_bounds__(...)

// A coordinate that is asked for when it is read: each fiber has its own.
template <dim3 (*kRead)(), unsigned dim3::*kAxis>
struct Coordinate {
  operator unsigned() const { return kRead().*kAxis; }
};
template <dim3 (*kRead)()>
struct Coordinates {
  Coordinate<kRead, &dim3::x> x;
  Coordinate<kRead, &dim3::y> y;
};
inline constexpr Coordinates<emulation::thread_index> threadIdx{};
inline constexpr Coordinates<emulation::block_index> blockIdx{};
inline constexpr Coordinates<emulation::grid_size> gridDim{};

using std::max;
using std::min;

inline void __syncthreads() { emulation::sync_block(); }
inline void __syncwarp() { emulation::sync_warp(); }

// Approximate on a GPU.
inline float __expf(float value) { return std::exp(value); }
inline float __fdividef(float value, float by) { return value / by; }

inline float __shfl_xor_sync(unsigned, float value, int mask) {
  uint32_t bits;
  std::memcpy(&bits, &value, 4);
  bits = emulation::shuffle_xor(bits, mask);
  std::memcpy(&value, &bits, 4);
  return value;
}

inline int __any_sync(unsigned, bool value) {
  uint32_t any = value ? 1 : 0;
  for (int distance = 16; distance > 0; distance /= 2) {
    any |= emulation::shuffle_xor(any, distance);
  }
  return static_cast<int>(any);
}

inline int __ffs(int bits) { return __builtin_ffs(bits); }

enum cudaLaunchAttributeID { cudaLaunchAttributeClusterDimension = 4 };
union cudaLaunchAttributeValue {
  struct {
    unsigned x, y, z;
  } clusterDim;
};
struct cudaLaunchAttribute {
  cudaLaunchAttributeID id;
  cudaLaunchAttributeValue val;
};
struct cudaLaunchConfig_t {
  dim3 gridDim;
  dim3 blockDim;
  size_t dynamicSmemBytes;
  cudaStream_t stream;
  cudaLaunchAttribute* attrs;
  unsigned numAttrs;
};

template <typename... Parameters, typename... Given>
cudaError_t cudaLaunchKernelEx(const cudaLaunchConfig_t* config, void (*kernel)(Parameters...),
                               Given&&... given) {
  constexpr size_t kSharedWithoutOptIn = 48 * 1024;
  constexpr unsigned kMostColumns = 0x7fffffff;
  constexpr unsigned kMostRows = 65535;
  if (config->dynamicSmemBytes > kSharedWithoutOptIn || config->gridDim.x > kMostColumns ||
      config->gridDim.y > kMostRows) {
    return cudaErrorInvalidValue;
  }
  const unsigned cluster = config->numAttrs == 0 ? 1 : config->attrs[0].val.clusterDim.x;
  const emulation::Shape shape{config->gridDim, config->blockDim, cluster,
                               config->dynamicSmemBytes};
  const auto launch = [shape, kernel, given...] { emulation::run(shape, [&] { kernel(given...); }); };
  const emulation::Capture& capture = emulation::captured;
  if (capture.graph != nullptr && capture.stream == config->stream) {
    capture.graph->push_back(launch);
  } else {
    launch();
  }
  return cudaSuccess;
}
