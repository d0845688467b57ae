// Sums, maxima and minima over a warp or a block, in an order that never changes.
//
// Butterfly shuffles leave the same bits in every lane, since a + b == b + a: whatever is decided
// on such a value is decided alike by all threads.
#pragma once

#include "arguments.cuh"

namespace gsp_deploy {

constexpr unsigned kAllLanes = 0xffffffffU;

struct Sum {
  static constexpr float kNeutral = 0.0F;
  __device__ static float of(float a, float b) { return a + b; }
};
struct Max {
  static constexpr float kNeutral = -3.402823466e+38F;
  __device__ static float of(float a, float b) { return fmaxf(a, b); }
};
struct Min {
  static constexpr float kNeutral = 3.402823466e+38F;
  __device__ static float of(float a, float b) { return fminf(a, b); }
};

template <typename Op>
__device__ __forceinline__ float warp_reduce(float value) {
#pragma unroll
  for (int distance = kWarpSize / 2; distance > 0; distance /= 2) {
    value = Op::of(value, __shfl_xor_sync(kAllLanes, value, distance));
  }
  return value;
}

// Every warp computes the whole reduction for itself: no barrier, for few values.
struct WarpTeam {
  static constexpr int kSize = kWarpSize;
  __device__ static int rank() { return static_cast<int>(threadIdx.x) % kWarpSize; }

  template <typename Op>
  __device__ float reduce(float value) {
    return warp_reduce<Op>(value);
  }
};

// All threads of the block share the work: one barrier a reduction.
struct BlockTeam {
  static constexpr int kSize = kThreads;
  static constexpr int kScratch = 2 * kWarps;  // floats of shared memory

  float* scratch;
  int turn = 0;  // two buffers in turns: the next reduction need not wait for this one's readers

  __device__ static int rank() { return static_cast<int>(threadIdx.x); }

  template <typename Op>
  __device__ float reduce(float value) {
    float* buffer = scratch + turn * kWarps;
    turn ^= 1;
    value = warp_reduce<Op>(value);
    if (threadIdx.x % kWarpSize == 0) {
      buffer[threadIdx.x / kWarpSize] = value;
    }
    __syncthreads();  // every warp's share is there
    float total = buffer[0];
#pragma unroll
    for (int warp = 1; warp < kWarps; ++warp) {
      total = Op::of(total, buffer[warp]);
    }
    return total;
  }
};

}  // namespace gsp_deploy
