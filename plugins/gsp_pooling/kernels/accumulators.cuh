// The three ways to reduce the weighted locations of a channel, term by term.
#pragma once

#include "log_mass.cuh"

namespace gsp_deploy {

struct WeightedMean {
  static constexpr int kTogether = 4;  // vectors on their way at a time
  float sum = 0.0F;

  __device__ void add(float value, float weight, const Arguments&) {
    sum = fmaf(value, weight, sum);
  }
  __device__ void merge(const WeightedMean& other) { sum += other.sum; }
  __device__ WeightedMean from_lane(int distance) const {
    return {__shfl_xor_sync(kAllLanes, sum, distance)};
  }
  __device__ float result(const Arguments& args) const {
    return sum / static_cast<float>(args.locations);
  }
};

struct WeightedMax {
  static constexpr int kTogether = 4;
  float peak = Max::kNeutral;

  __device__ void add(float value, float weight, const Arguments&) {
    merge({value * weight});
  }
  // A NaN wins and stays, where fmaxf would drop it.
  __device__ void merge(const WeightedMax& other) {
    peak = other.peak > peak || other.peak != other.peak ? other.peak : peak;
  }
  __device__ WeightedMax from_lane(int distance) const {
    return {__shfl_xor_sync(kAllLanes, peak, distance)};
  }
  __device__ float result(const Arguments&) const { return peak; }
};

// (mean v^p)^(1/p) by logarithms: no power can overflow or vanish, and there is no division by the
// peak to wait for.
struct PowerMean {
  static constexpr int kTogether = 1;  // a logarithm and an exponential a term
  LogSum powers;

  __device__ void add(float value, float weight, const Arguments& args) {
    const float weighted = value * weight;
    powers.add(args.power * logf(weighted < kGemFloor ? kGemFloor : weighted));  // keeps a NaN
  }
  __device__ void merge(const PowerMean& other) { powers.merge(other.powers); }
  __device__ PowerMean from_lane(int distance) const {
    return {{__shfl_xor_sync(kAllLanes, powers.peak, distance),
             __shfl_xor_sync(kAllLanes, powers.sum, distance)}};
  }
  __device__ float result(const Arguments& args) const {
    const float mean = powers.sum / static_cast<float>(args.locations);
    return expf((powers.peak + logf(mean)) / args.power);
  }
};

}  // namespace gsp_deploy
