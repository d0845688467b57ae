// kSplit: the stages as launches of their own, each over as many blocks as its work has parts.
#pragma once

#include "attributes_kernel.cuh"
#include "image_kernel.cuh"

namespace gsp_deploy {

// Channels of an image that one block pools.
constexpr int kSliceChannels = 256;

// Grid (images x tiles of locations). Writes args.log_mass, and args.lengths where they are needed.
template <typename In, Layout kLayout>
__global__ void __launch_bounds__(kThreads, 2) log_mass_of_images(const Arguments args) {
  const int tiles = divide_up(args.locations, kTile);
  const int image = static_cast<int>(blockIdx.x) / tiles;
  const int first = static_cast<int>(blockIdx.x) % tiles * kTile;
  const SharedMemory shared = shared_memory<In>(0);
  CostTile<In, kLayout> costs(args, embeddings_of<In>(args, image), shared);
  float* log_mass = log_mass_of(args, image);
  float* lengths = lengths_of(args, image);
  log_mass_of_locations(costs, args, shared, first, kTile, [&](int i, float l, float length) {
    log_mass[i] = l;
    if (args.embedding_bound != nullptr) {
      lengths[i] = length;
    }
  });
}

// Grid (images x slices of channels). Every block solves its image; the first writes the weights.
template <typename In, Layout kLayout>
__global__ void __launch_bounds__(kThreads, 2) pool_slices(const Arguments args) {
  const int slices = divide_up(args.pooled_channels, kSliceChannels);
  const int image = static_cast<int>(blockIdx.x) / slices;
  const int slice = static_cast<int>(blockIdx.x) % slices;
  const SharedMemory shared = shared_memory<In>(0);
  if (args.solves()) {
    read_log_mass(args, image, shared.log_mass);
  }
  const Solution solution = solve(shared.log_mass, args, shared.team);
  if (args.attributes != nullptr && slice == 0 && threadIdx.x == 0) {
    write_solution(args, image, solution);
  }
  __syncthreads();  // nobody solves any more
  write_weights(args, shared, solution, image, slice == 0);
  const size_t row = static_cast<size_t>(image) * args.pooled_channels;
  const Channels<In> channels = channels_of<In>(args, image, slice, slices);
  pool<In, kLayout>(channels, shared.log_mass, args, shared.stage, [&](int channel, float value) {
    if (args.holds_back()) {
      args.unscaled[row + channel] = value;
    } else {
      store_output(args.pooled, row + channel, value, args.output_type);
    }
  });
}

// Grid (images). Writes args.unscaled, scaled to length 1 when asked to, and what its length bounds.
__global__ void __launch_bounds__(kThreads) write_rows(const Arguments args) {
  const size_t image = blockIdx.x;
  const float* row = args.unscaled + image * args.pooled_channels;
  BlockTeam team{shared_memory<float>(0).team};
  const float square = reduce_over<Sum>(team, args.pooled_channels,
                                        [&](int c) { return row[c] * row[c]; });
  const float length = sqrtf(square);
  const float scale = args.normalize ? 1.0F / fmaxf(length, kNormFloor) : 1.0F;
  for (int c = threadIdx.x; c < args.pooled_channels; c += kThreads) {
    store_output(args.pooled, image * args.pooled_channels + c, row[c] * scale, args.output_type);
  }
  if (args.embedding_bound != nullptr) {
    const float* lengths = lengths_of(args, static_cast<int>(image));
    const int count = args.solves() ? args.locations : 0;
    const float longest = reduce_over<Max>(team, count, [&](int i) { return lengths[i]; });
    if (threadIdx.x == 0) {
      args.embedding_bound[image] = embedding_bound(args.residual[image], longest, length);
    }
  }
}

}  // namespace gsp_deploy
