// The certified solver: one sweep over points of the bracket, then a few third-order steps from the
// middle of the root's cell. Its error is bounded for every input (gsp_deploy/bounds.py, and
// float32_bounds.py for the rounding); the form is that of gsp_deploy/export/transport.py.
//
// The points of the sweep do not depend on each other: all threads of a block share them, and one
// barrier ends it, where Newton's iteration has a reduction a step.
#pragma once

#include "reductions.cuh"

namespace gsp_deploy {

__device__ __forceinline__ float sigmoid(float x) { return 1.0F / (1.0F + expf(-x)); }

// The same within a few units of the last place: for the sweep, which only compares.
__device__ __forceinline__ float quick_sigmoid(float x) {
  return __fdividef(1.0F, 1.0F + __expf(-x));
}

// The largest log-mass, and how far below it the smallest is.
struct Range {
  float peak;
  float width;
};

template <typename Team>
__device__ __forceinline__ Range range_of(Team& team, const float* log_mass, int count) {
  Values<2> ends = {{Max::kNeutral, Max::kNeutral}};
  for (int i = team.rank(); i < count; i += Team::kSize) {
    ends.at[0] = fmaxf(ends.at[0], log_mass[i]);
    ends.at[1] = fmaxf(ends.at[1], -log_mass[i]);
  }
  ends = team.template reduce<Max>(ends);
  return {ends.at[0], ends.at[0] + ends.at[1]};
}

// Return how many lanes share a point: as many as the block can spare, and so many that none of
// them adds more than sixteen terms in a row, or a 32nd of them.
__device__ __forceinline__ int lanes_of_point(const Arguments& args) {
  constexpr int kFewest = 4;
  int lanes = kWarpSize;
  while (lanes > kFewest && lanes * args.grid_points > kThreads && args.locations <= 8 * lanes) {
    lanes /= 2;
  }
  return lanes;
}

// Return at how many of the points k * cell, k from 1 to G, no more than mu is kept.
__device__ inline float points_below_root(BlockTeam& block, const float* log_mass, float shift,
                                          float cell, const Arguments& args) {
  const int lanes = lanes_of_point(args);
  const int points = kThreads / lanes;
  const int part = static_cast<int>(threadIdx.x) % lanes;
  Values<1> below = {};
  for (int base = 0; base < args.grid_points; base += points) {
    const int point = base + static_cast<int>(threadIdx.x) / lanes + 1;
    const float beta = static_cast<float>(point) * cell;
    float excess = 0.0F;
#pragma unroll 4
    for (int i = part; i < args.locations; i += lanes) {
      excess += quick_sigmoid(beta + (log_mass[i] - shift)) - args.ratio;
    }
    excess = reduce_lanes<Sum>(excess, lanes);
    below.at[0] += part == 0 && point <= args.grid_points && excess <= 0.0F ? 1.0F : 0.0F;
  }
  return block.reduce<Sum>(below).at[0];  // whole numbers: exact
}

// Keep `value` within `limit` of 0; a NaN stays one.
__device__ __forceinline__ float within(float value, float limit) {
  return value > limit ? limit : (value < -limit ? -limit : value);
}

// Return beta for the log-masses less `shift`, which puts the root between 0 and `width`.
template <typename Team>
__device__ float certified(Team& team, BlockTeam& block, const float* log_mass, float shift,
                           float width, const Arguments& args) {
  const float share = 1.0F / static_cast<float>(args.locations);
  const float cell = width / static_cast<float>(args.grid_points + 1);
  float beta = cell * (points_below_root(block, log_mass, shift, cell, args) + 0.5F);
  float limit = 0.5F * cell;  // how far the root can be
  for (int step = 1; step <= args.iterations; ++step) {
    Values<3> sums = {};  // how much too much is kept, its slope, and half the slope's slope
    for (int i = team.rank(); i < args.locations; i += Team::kSize) {
      const float kept = sigmoid(beta + (log_mass[i] - shift));
      const float slope = fmaf(-kept, kept, kept);  // rounded once, also where kept is near 1
      sums.at[0] += kept - args.ratio;
      sums.at[1] += slope;
      sums.at[2] += slope * (0.5F - kept);
    }
    sums = team.template reduce<Sum>(sums);
    const float excess = share * sums.at[0];
    const float slope = fmaxf(share * sums.at[1], kUnitRoundoff);
    const float divisor = slope - excess * (share * sums.at[2] / slope);
    if (step < args.iterations) {
      beta -= within(excess / divisor, limit);
      limit = fminf(limit, 0.25F * limit * limit * limit);  // no less than the step's error
    } else {
      beta -= excess / fmaxf(divisor, kSmallestDivisor);
    }
  }
  return beta;
}

}  // namespace gsp_deploy
