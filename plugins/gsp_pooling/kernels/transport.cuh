// The transport of one image, solved as one scalar equation: mean_i sigmoid(beta + l_i) = mu.
//
// The same iterations as gsp_deploy/layers/transport.py, which says why each step is as it is,
// in float32 as in gsp_deploy/export/transport.py.
#pragma once

#include "certified.cuh"

namespace gsp_deploy {

// Up to this many locations every warp solves for itself, without barriers.
constexpr int kWarpLocations = 256;

// w_i = sigmoid(beta + (l_i - shift)) / mu
struct Solution {
  float beta;
  float shift;
};

__device__ __forceinline__ float mixing_weight(const Arguments& args, Solution solution,
                                               float log_mass) {
  if (args.keeps_everything()) {
    return 1.0F;
  }
  return sigmoid(solution.beta + (log_mass - solution.shift)) * args.inverse_ratio;
}

// Newton's iteration that never crosses the middle of its bracket.
template <typename Team>
__device__ Solution newton(Team& team, const float* log_mass, const Arguments& args) {
  const int count = args.locations;
  const float share = 1.0F / static_cast<float>(count);
  const Range range = range_of(team, log_mass, count);
  const float mean_log_mass =
      share * reduce_over<Sum>(team, count, [&](int i) { return log_mass[i] - range.peak; });
  float low = args.logit_ratio;  // the largest shifted log-mass is 0
  float high = args.logit_ratio + range.width;
  float beta = args.logit_ratio - mean_log_mass;
  for (int step = 0; step < args.iterations; ++step) {
    Values<2> sums = {};  // what is kept, and its slope
    for (int i = team.rank(); i < count; i += Team::kSize) {
      const float one = sigmoid(beta + (log_mass[i] - range.peak));
      sums.at[0] += one;
      sums.at[1] += one - one * one;
    }
    sums = team.template reduce<Sum>(sums);
    const float excess = share * sums.at[0] - args.ratio;
    const float slope = fmaxf(share * sums.at[1], kSmallestSlope);
    const float previous = beta;
    const float target = beta - excess / slope;
    const bool too_high = excess > 0.0F;
    low = too_high ? low : beta;
    high = too_high ? beta : high;
    const float middle = 0.5F * (low + high);
    beta = too_high ? fmaxf(target, middle) : fminf(target, middle);
    if (beta == previous) {
      break;  // further steps would change nothing; all threads hold the same beta
    }
  }
  return {beta, range.peak};
}

// The paper's iteration. Its first step alone can lie deep in the sigmoid's tail, so it is taken
// relative to the largest log-mass.
template <typename Team>
__device__ Solution fixed_point(Team& team, const float* log_mass, const Arguments& args) {
  const int count = args.locations;
  const float share = 1.0F / static_cast<float>(count);
  const float peak = reduce_over<Max>(team, count, [&](int i) { return log_mass[i]; });
  const float start = share * reduce_over<Sum>(team, count, [&](int i) {
                        return expf(log_mass[i] - peak) /
                               (1.0F + expf(args.log_initial_scale + log_mass[i]));
                      });
  float beta = args.log_ratio - logf(start) - peak;
  for (int step = 1; step < args.iterations; ++step) {
    const float mean = share * reduce_over<Sum>(team, count, [&](int i) {
                         return sigmoid(beta + log_mass[i]);
                       });
    const float previous = beta;
    beta = beta + args.log_ratio - logf(mean);
    if (beta == previous) {
      break;
    }
  }
  return {beta, 0.0F};
}

// `block` is for what all threads do together, `team` for the rest; they may be the same.
template <typename Team>
__device__ Solution solve_with(Team& team, BlockTeam& block, const float* log_mass,
                               const Arguments& args) {
  switch (args.solver) {
    case Solver::kFixedPoint:
      return fixed_point(team, log_mass, args);
    case Solver::kNewton:
      return newton(team, log_mass, args);
    case Solver::kCertified:
      break;
  }
  const Range range = range_of(team, log_mass, args.locations);
  const float shift = range.peak - args.logit_ratio;
  return {certified(team, block, log_mass, shift, range.width, args), shift};
}

// Solve for log-masses (N) in shared memory; every thread returns the same solution. The caller
// puts a barrier between this and its next use of `scratch`. A NaN among the log-masses makes
// beta, and with it every weight of the image, NaN.
__device__ inline Solution solve(const float* log_mass, const Arguments& args, float* scratch) {
  if (args.keeps_everything()) {
    return {0.0F, 0.0F};
  }
  BlockTeam block{scratch};
  if (args.locations <= kWarpLocations) {
    WarpTeam warp;
    return solve_with(warp, block, log_mass, args);
  }
  return solve_with(block, block, log_mass, args);
}

}  // namespace gsp_deploy
