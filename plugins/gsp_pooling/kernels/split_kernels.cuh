// kSplit: the stages as launches of their own, each over as many blocks as its work has parts.
#pragma once

#include "image_kernel.cuh"

namespace gsp_deploy {

// Channels of an image that one block pools.
constexpr int kSliceChannels = 256;

// Grid (tiles of locations, images). Writes args.log_mass.
template <typename In, Layout kLayout>
__global__ void __launch_bounds__(kThreads, 2) log_mass_of_images(const Arguments args) {
  const int image = static_cast<int>(blockIdx.y);
  const SharedMemory shared = shared_memory<In>(0);
  CostTile<In, kLayout> costs(args, embeddings_of<In>(args, image), shared);
  float* log_mass = args.log_mass + static_cast<size_t>(image) * args.locations;
  log_mass_of_locations(costs, args, shared, blockIdx.x * kTile, kTile,
                        [&](int i, float l) { log_mass[i] = l; });
}

__device__ inline void read_log_mass(const Arguments& args, int image, float* to) {
  const float* log_mass = args.log_mass + static_cast<size_t>(image) * args.locations;
  for (int i = threadIdx.x; i < args.locations; i += kThreads) {
    to[i] = args.solves() ? log_mass[i] : 0.0F;
  }
  __syncthreads();  // the log-masses are there
}

// Grid (slices of channels, images). Every block solves its image; the first writes the weights.
template <typename In, Layout kLayout>
__global__ void __launch_bounds__(kThreads, 2) pool_slices(const Arguments args) {
  const int image = static_cast<int>(blockIdx.y);
  const SharedMemory shared = shared_memory<In>(0);
  read_log_mass(args, image, shared.log_mass);
  const Solution solution = solve(shared.log_mass, args, shared.team);
  if (blockIdx.x == 0 && threadIdx.x == 0) {
    args.solution[2 * image] = solution.beta;
    args.solution[2 * image + 1] = solution.shift;
  }
  __syncthreads();  // nobody solves any more
  for (int i = threadIdx.x; i < args.locations; i += kThreads) {
    const float weight = mixing_weight(args, solution, shared.log_mass[i]);
    shared.log_mass[i] = weight;
    if (args.weights != nullptr && blockIdx.x == 0) {
      store_output(args.weights, static_cast<size_t>(image) * args.locations + i, weight,
                   args.output_type);
    }
  }
  __syncthreads();  // the weights are there
  const size_t row = static_cast<size_t>(image) * args.pooled_channels;
  const Channels<In> channels = channels_of<In>(args, image, blockIdx.x, gridDim.x);
  pool<In, kLayout>(channels, shared.log_mass, args, shared.stage, [&](int channel, float value) {
    if (args.normalize) {
      args.unscaled[row + channel] = value;
    } else {
      store_output(args.pooled, row + channel, value, args.output_type);
    }
  });
}

// Grid (tiles of prototypes, images). Reads args.solution.
template <typename In, Layout kLayout>
__global__ void __launch_bounds__(kThreads, 2) attributes_of_images(const Arguments args) {
  const int image = static_cast<int>(blockIdx.y);
  const SharedMemory shared = shared_memory<In>(0);
  CostTile<In, kLayout> costs(args, embeddings_of<In>(args, image), shared);
  read_log_mass(args, image, shared.log_mass);
  const Solution solution = {args.solution[2 * image], args.solution[2 * image + 1]};
  attributes_of_prototypes(costs, args, shared.log_mass, solution, blockIdx.x * kTile,
                           static_cast<size_t>(image) * args.num_prototypes);
}

// Grid (images). Scales args.unscaled to length 1.
__global__ void __launch_bounds__(kThreads) normalise_rows(const Arguments args) {
  const float* row = args.unscaled + static_cast<size_t>(blockIdx.x) * args.pooled_channels;
  BlockTeam team{shared_memory<float>(0).team};
  const float square = reduce_over<Sum>(team, args.pooled_channels,
                                        [&](int c) { return row[c] * row[c]; });
  const float scale = 1.0F / fmaxf(sqrtf(square), kNormFloor);
  for (int c = threadIdx.x; c < args.pooled_channels; c += kThreads) {
    store_output(args.pooled, static_cast<size_t>(blockIdx.x) * args.pooled_channels + c,
                 row[c] * scale, args.output_type);
  }
}

}  // namespace gsp_deploy
