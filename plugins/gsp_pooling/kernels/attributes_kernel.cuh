// The attributes, when they are wanted: a launch of its own, after any plan.
//
// They need the solution and then every score once more. Computing the scores again costs less than
// keeping (M, N) of them an image, and a kernel of its own has a block for every 64 prototypes.
#pragma once

#include "cost.cuh"
#include "workspace.cuh"

namespace gsp_deploy {

// a_j = sum_i w_i softmax_j(-gamma c_ji) / sum_i w_i. Grid (images x tiles of prototypes).
template <typename In, Layout kLayout>
__global__ void __launch_bounds__(kThreads, 2) attributes_of_images(const Arguments args) {
  const int tiles = divide_up(args.num_prototypes, kTile);
  const int image = static_cast<int>(blockIdx.x) / tiles;
  const int first = static_cast<int>(blockIdx.x) % tiles * kTile;
  const SharedMemory shared = shared_memory<In>(0);
  CostTile<In, kLayout> costs(args, embeddings_of<In>(args, image), shared);
  read_log_mass(args, image, shared.log_mass);
  const Solution solution = read_solution(args, image);

  constexpr int kParts = kThreads / kTile;  // neighbouring lanes share a prototype
  const int prototype = static_cast<int>(threadIdx.x) / kParts;
  const int part = static_cast<int>(threadIdx.x) % kParts;
  float mass = 0.0F;
  float total = 0.0F;
  for (int location = 0; location < args.locations; location += kTile) {
    const Tile tile = tile_of(args, first, location, kTile);
    costs.compute(tile);
    for (int i = part; i < tile.locations; i += kParts) {
      const float l = shared.log_mass[location + i];
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
    const size_t row = static_cast<size_t>(image) * args.num_prototypes;
    store_output(args.attributes, row + first + prototype, mass / total, args.output_type);
  }
}

}  // namespace gsp_deploy
