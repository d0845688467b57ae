// l_i = logsumexp_j(-gamma c_ji) for a tile of locations.
#pragma once

#include "cost.cuh"

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

// Compute l for `span` locations from `first` on, over all prototypes; `store(i, l_i, |f_i|)` is
// called once for each, by any thread. Ends without a barrier.
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
    store(first + location, mass.log(), costs.length(location));
  }
}

}  // namespace gsp_deploy
