// l_i = logsumexp_j(-gamma c_ji) for a tile of locations, and the attributes of a tile of
// prototypes: the two reductions over the scores.
#pragma once

#include "cost.cuh"
#include "transport.cuh"

namespace gsp_deploy {

// A sum of exponentials relative to its largest, grown term by term.
struct LogSum {
  float peak = Max::kNeutral;
  float sum = 0.0F;

  __device__ void add(float exponent) { merge({exponent, 1.0F}); }
  __device__ void merge(const LogSum& other) {
    const float scale = expf(-fabsf(other.peak - peak));
    sum = other.peak > peak ? fmaf(sum, scale, other.sum) : fmaf(other.sum, scale, sum);
    peak = fmaxf(peak, other.peak);
  }
  __device__ float log() const { return peak + logf(sum); }
};

// Compute l for `span` locations from `first` on, over all prototypes; `store(i, l_i)` is called
// once for each, by any thread. Ends without a barrier.
template <typename In, Layout kLayout, typename Store>
__device__ void log_mass_of_locations(CostTile<In, kLayout>& costs, const Arguments& args,
                                      const SharedMemory& shared, int first, int span,
                                      Store store) {
  constexpr int kParts = kThreads / kTile;
  const int location = static_cast<int>(threadIdx.x) % kTile;
  const int part = static_cast<int>(threadIdx.x) / kTile;
  LogSum mass;
  int locations = 0;
  for (int prototype = 0; prototype < args.num_prototypes; prototype += kTile) {
    const Tile tile = tile_of(args, prototype, first, span);
    locations = tile.locations;
    costs.compute(tile);
    if (location < tile.locations) {
      const int begin = part * (kTile / kParts);
      const int end = min(begin + kTile / kParts, tile.prototypes);
      for (int j = begin; j < end; ++j) {
        mass.add(costs.score(j, location));
      }
    }
  }
  shared.partials[part * kTile + location] = mass.peak;
  shared.partials[(kParts + part) * kTile + location] = mass.sum;
  __syncthreads();  // every part's mass is there
  if (part == 0 && location < locations) {
    for (int other = 1; other < kParts; ++other) {
      mass.merge({shared.partials[other * kTile + location],
                  shared.partials[(kParts + other) * kTile + location]});
    }
    store(first + location, mass.log());
  }
}

// Write a_j = sum_i w_i softmax_j(-gamma c_ji) / sum_i w_i of 64 prototypes from `first` on, given
// the solution and every location's log-mass. `attributes` is the image's (M).
template <typename In, Layout kLayout>
__device__ void attributes_of_prototypes(CostTile<In, kLayout>& costs, const Arguments& args,
                                         const float* log_mass, Solution solution, int first,
                                         size_t attributes) {
  constexpr int kParts = kThreads / kTile;  // neighbouring lanes share a prototype
  const int prototype = static_cast<int>(threadIdx.x) / kParts;
  const int part = static_cast<int>(threadIdx.x) % kParts;
  float mass = 0.0F;
  float total = 0.0F;
  for (int location = 0; location < args.locations; location += kTile) {
    const Tile tile = tile_of(args, first, location, kTile);
    costs.compute(tile);
    for (int i = part; i < tile.locations; i += kParts) {
      const float l = log_mass[location + i];
      const float weight = mixing_weight(args, solution, l);
      total += weight;
      if (prototype < tile.prototypes) {
        mass = fmaf(expf(costs.score(prototype, i) - l), weight, mass);
      }
    }
  }
#pragma unroll
  for (int distance = kParts / 2; distance > 0; distance /= 2) {
    mass += __shfl_xor_sync(kAllLanes, mass, distance);
    total += __shfl_xor_sync(kAllLanes, total, distance);
  }
  if (part == 0 && first + prototype < args.num_prototypes) {
    store_output(args.attributes, attributes + first + prototype, mass / total, args.output_type);
  }
}

}  // namespace gsp_deploy
