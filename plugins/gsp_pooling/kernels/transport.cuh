// The transport of one image, solved as one scalar equation: mean_i sigmoid(beta + l_i) = mu.
//
// The same two iterations as gsp_deploy/layers/transport.py, which says why each step is as it is,
// in float32 as in gsp_deploy/export/transport.py.
#pragma once

#include "reductions.cuh"

namespace gsp_deploy {

// Up to this many locations every warp solves for itself, without barriers.
constexpr int kWarpLocations = 256;

// w_i = sigmoid(beta + (l_i - shift)) / mu
struct Solution {
  float beta;
  float shift;
};

__device__ __forceinline__ float sigmoid(float x) { return 1.0F / (1.0F + expf(-x)); }

__device__ __forceinline__ float mixing_weight(const Arguments& args, Solution solution,
                                               float log_mass) {
  if (args.keeps_everything()) {
    return 1.0F;
  }
  return sigmoid(solution.beta + (log_mass - solution.shift)) * args.inverse_ratio;
}

template <typename Op, typename Team, typename Term>
__device__ __forceinline__ float reduce_over(Team& team, int count, Term term) {
  float value = Op::kNeutral;
  for (int i = team.rank(); i < count; i += Team::kSize) {
    value = Op::of(value, term(i));
  }
  return team.template reduce<Op>(value);
}

// Newton's iteration that never crosses the middle of its bracket.
template <typename Team>
__device__ Solution newton(Team team, const float* log_mass, const Arguments& args) {
  const int count = args.locations;
  const float share = 1.0F / static_cast<float>(count);
  const float peak = reduce_over<Max>(team, count, [&](int i) { return log_mass[i]; });
  const float lowest = reduce_over<Min>(team, count, [&](int i) { return log_mass[i] - peak; });
  const float mean_log_mass =
      share * reduce_over<Sum>(team, count, [&](int i) { return log_mass[i] - peak; });
  float low = args.logit_ratio;  // the largest shifted log-mass is 0
  float high = args.logit_ratio - lowest;
  float beta = args.logit_ratio - mean_log_mass;
  for (int step = 0; step < args.iterations; ++step) {
    float kept = 0.0F;
    float slope = 0.0F;
    for (int i = team.rank(); i < count; i += Team::kSize) {
      const float one = sigmoid(beta + (log_mass[i] - peak));
      kept += one;
      slope += one - one * one;
    }
    const float excess = share * team.template reduce<Sum>(kept) - args.ratio;
    slope = fmaxf(share * team.template reduce<Sum>(slope), kSmallestSlope);
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
  return {beta, peak};
}

// The paper's iteration. Its first step alone can lie deep in the sigmoid's tail, so it is taken
// relative to the largest log-mass.
template <typename Team>
__device__ Solution fixed_point(Team team, const float* log_mass, const Arguments& args) {
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

template <typename Team>
__device__ Solution solve_with(Team team, const float* log_mass, const Arguments& args) {
  return args.solver == Solver::kNewton ? newton(team, log_mass, args)
                                        : fixed_point(team, log_mass, args);
}

// Solve for log-masses (N) in shared memory; every thread returns the same solution. The caller
// puts a barrier between this and its next use of `scratch`.
__device__ inline Solution solve(const float* log_mass, const Arguments& args, float* scratch) {
  if (args.keeps_everything()) {
    return {0.0F, 0.0F};
  }
  if (args.locations <= kWarpLocations) {
    return solve_with(WarpTeam{}, log_mass, args);
  }
  return solve_with(BlockTeam{scratch}, log_mass, args);
}

}  // namespace gsp_deploy
