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
  static constexpr float kNeutral = -kLargestFloat;
  __device__ static float of(float a, float b) { return fmaxf(a, b); }
};
struct Min {
  static constexpr float kNeutral = kLargestFloat;
  __device__ static float of(float a, float b) { return fminf(a, b); }
};

// Some values that are reduced together: their shuffles overlap, and they share one barrier.
template <int kCount>
struct Values {
  float at[kCount];
};

// Reduce over a whole warp.
template <typename Op, int kCount>
__device__ __forceinline__ Values<kCount> reduce_warp(Values<kCount> values) {
#pragma unroll
  for (int distance = kWarpSize / 2; distance > 0; distance /= 2) {
#pragma unroll
    for (int k = 0; k < kCount; ++k) {
      values.at[k] = Op::of(values.at[k], __shfl_xor_sync(kAllLanes, values.at[k], distance));
    }
  }
  return values;
}

// Reduce over neighbouring lanes, `lanes` of them: a power of two, the same in all of the warp.
template <typename Op>
__device__ __forceinline__ float reduce_lanes(float value, int lanes) {
  for (int distance = lanes / 2; distance > 0; distance /= 2) {
    value = Op::of(value, __shfl_xor_sync(kAllLanes, value, distance));
  }
  return value;
}

// Every warp computes the whole reduction for itself: no barrier, for few values.
struct WarpTeam {
  static constexpr int kSize = kWarpSize;
  __device__ static int rank() { return static_cast<int>(threadIdx.x) % kWarpSize; }

  template <typename Op, int kCount>
  __device__ Values<kCount> reduce(const Values<kCount>& values) {
    return reduce_warp<Op>(values);
  }
};

// All threads of the block share the work: one barrier a reduction.
struct BlockTeam {
  static constexpr int kSize = kThreads;
  static constexpr int kMostValues = 3;  // of one reduction
  static constexpr int kScratch = 2 * kWarps * kMostValues;  // floats of shared memory

  float* scratch;
  int turn = 0;  // two buffers in turns: the next reduction need not wait for this one's readers

  __device__ static int rank() { return static_cast<int>(threadIdx.x); }

  template <typename Op, int kCount>
  __device__ Values<kCount> reduce(const Values<kCount>& values) {
    static_assert(kCount <= kMostValues, "the scratch holds no more");
    float* buffer = scratch + turn * kWarps * kMostValues;
    turn ^= 1;
    Values<kCount> total = reduce_warp<Op>(values);
    if (threadIdx.x % kWarpSize == 0) {
#pragma unroll
      for (int k = 0; k < kCount; ++k) {
        buffer[k * kWarps + threadIdx.x / kWarpSize] = total.at[k];
      }
    }
    __syncthreads();  // every warp's share is there
#pragma unroll
    for (int k = 0; k < kCount; ++k) {
      total.at[k] = buffer[k * kWarps];
#pragma unroll
      for (int warp = 1; warp < kWarps; ++warp) {
        total.at[k] = Op::of(total.at[k], buffer[k * kWarps + warp]);
      }
    }
    return total;
  }
};

// Reduce `term(i)` over i below `count`, which the team's threads share; all return the result.
template <typename Op, typename Team, typename Term>
__device__ __forceinline__ float reduce_over(Team& team, int count, Term term) {
  Values<1> value = {{Op::kNeutral}};
  for (int i = team.rank(); i < count; i += Team::kSize) {
    value.at[0] = Op::of(value.at[0], term(i));
  }
  return team.template reduce<Op>(value).at[0];
}

}  // namespace gsp_deploy
