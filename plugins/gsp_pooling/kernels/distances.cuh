// c^2 of one tile from its products, in their place; pairs that are near, by their differences.
//
// |p|^2 + |f|^2 - 2 p.f carries the rounding of its three sums, about 2^-20. For a pair that is
// near that is much of c^2 itself, and the root makes it worse: gamma 2^-21 / c in the log-mass.
// So two kinds of pairs are summed again as differences, sum_d (p_d - f^_d)^2, right to a few units
// of the last place: pairs nearer than a limit, which the launcher draws from gamma, and a
// location's nearest prototype of the tile if it is near at all. Every other prototype is half the
// distance between two prototypes away at least, as gsp_deploy/cost_bounds.py has it.
#pragma once

#include "tile.cuh"

namespace gsp_deploy {

// Lanes that share a location. Eight prototypes by four locations of a warp hit all 32 banks.
constexpr int kGroup = 8;
constexpr int kGroups = kThreads / kGroup;
// Beyond this c^2 a nearest prototype's sum loses no more than the others' sums do.
constexpr float kNearestSquare = 0.5F;

template <typename In, Layout kLayout>
class Distances {
 public:
  __device__ Distances(const Arguments& args, const In* embeddings, const Tile& tile,
                       const SharedMemory& shared)
      : args_(args), embeddings_(embeddings), tile_(tile), shared_(shared) {}

  // Replace the tile's products by squared distances. A NaN stays one. Ends without a barrier.
  __device__ void write() const {
    for (int first = 0; first < tile_.locations; first += kGroups) {
      const int location = first + static_cast<int>(threadIdx.x) / kGroup;
      unsigned near = write_all(location);
      while (__any_sync(kAllLanes, near != 0U)) {
        const int own = near != 0U ? prototype_of(__ffs(static_cast<int>(near)) - 1) : kTile;
        const int prototype = static_cast<int>(reduce_lanes<Min>(static_cast<float>(own), kGroup));
        const float square = square_of(prototype, location);
        if (near != 0U && own == prototype) {
          cell(prototype, location) = square;  // by the lane that wrote it before
          near &= near - 1U;
        }
      }
    }
  }

 private:
  static constexpr bool kLast = kLayout == Layout::kChannelsLast;
  static constexpr int kSlots = kTile / kGroup;

  __device__ static int lane() { return static_cast<int>(threadIdx.x) % kGroup; }
  __device__ static int prototype_of(int slot) { return slot * kGroup + lane(); }

  __device__ float& cell(int prototype, int location) const {
    return reinterpret_cast<float*>(shared_.stage)[prototype * kScoresStride + location];
  }

  // Write this lane's prototypes of a location; return a bit for each that is near.
  __device__ unsigned write_all(int location) const {
    const bool exists = location < tile_.locations;
    const float inner_square = shared_.inner_squares[location];
    const float twice = -2.0F * shared_.inverse_norms[location];
    float squares[kSlots];
    float least = kNearestSquare;
#pragma unroll
    for (int slot = 0; slot < kSlots; ++slot) {
      const int prototype = prototype_of(slot);
      squares[slot] = kLargestFloat;
      if (exists && prototype < tile_.prototypes) {
        float& place = cell(prototype, location);
        const float square =
            fmaf(twice, place, shared_.prototype_squares[prototype] + inner_square);
        place = square < 0.0F ? 0.0F : square;
        least = fminf(least, square);
        squares[slot] = square;
      }
    }
    const float limit = fmaxf(reduce_lanes<Min>(least, kGroup), args_.near_square);
    unsigned near = 0U;
#pragma unroll
    for (int slot = 0; slot < kSlots; ++slot) {
      near |= static_cast<unsigned>(squares[slot] <= limit) << slot;
    }
    return near;
  }

  // Sum a pair's differences over the lanes of its group, for all of them; kTile stands for no pair.
  __device__ float square_of(int prototype, int location) const {
    float sum = 0.0F;
    if (prototype < kTile) {
      // An image's elements and the prototypes' are fewer than 2^31 each.
      const int depth = args_.embedding_dim;
      const int stride = kLast ? 1 : args_.locations;
      const int row = tile_.first_prototype + prototype;
      const int place = tile_.first_location + location;
      const float* p = args_.prototypes + row * depth;
      const In* f = embeddings_ + place * (kLast ? depth : 1);
      const float scale = shared_.inverse_norms[location];
#pragma unroll 8
      for (int d = lane(); d < depth; d += kGroup) {
        const float difference = fmaf(-scale, to_float(f[d * stride]), p[d]);
        sum = fmaf(difference, difference, sum);
      }
    }
    return reduce_lanes<Sum>(sum, kGroup);
  }

  const Arguments& args_;
  const In* embeddings_;
  const Tile& tile_;
  const SharedMemory& shared_;
};

}  // namespace gsp_deploy
