// kBlock and kCluster: the whole pooling of an image in one launch. Only the attributes, when they
// are wanted, take a second one: here they would double the kernel and spill its registers.
#pragma once

#include "certificate.cuh"
#include "cluster.cuh"
#include "pool.cuh"

namespace gsp_deploy {

// How many locations a block of a cluster takes at a time: all blocks have work where there is any.
__device__ inline int span_of(int locations, int blocks) {
  return max(8, min(kTile, round_up(divide_up(locations, blocks), 8)));
}

// Write what a cluster held back of its pooled channels, and what depends on their length. `own` are
// this block's.
__device__ inline void write_held_back(ImageBlocks& blocks, const SharedMemory& shared,
                                       const Arguments& args, const float* own, int first,
                                       int count, size_t image) {
  BlockTeam team{shared.team};
  const float square = reduce_over<Sum>(team, count, [&](int c) { return own[c] * own[c]; });
  if (threadIdx.x == 0) {
    blocks.share(shared.cluster_squares + blocks.rank(), square);
  }
  blocks.sync();  // every block's share of the square is there
  float total = 0.0F;
  float longest = 0.0F;
  for (int block = 0; block < blocks.size(); ++block) {
    total += shared.cluster_squares[block];
    longest = fmaxf(longest, shared.cluster_lengths[block]);
  }
  const float length = sqrtf(total);
  const float scale = args.normalize ? 1.0F / fmaxf(length, kNormFloor) : 1.0F;
  for (int c = threadIdx.x; c < count; c += kThreads) {
    store_output(args.pooled, image * args.pooled_channels + first + c, own[c] * scale,
                 args.output_type);
  }
  if (args.embedding_bound != nullptr && blocks.rank() == 0 && threadIdx.x == 0) {
    args.embedding_bound[image] = embedding_bound(args.residual[image], longest, length);
  }
}

// Give the largest |f| of this block's locations to the cluster, where it is asked for.
__device__ inline void share_longest(ImageBlocks& blocks, const SharedMemory& shared,
                                     const Arguments& args, float longest) {
  if (args.embedding_bound == nullptr) {
    return;
  }
  BlockTeam team{shared.team};
  longest = team.reduce<Max>(Values<1>{{longest}}).at[0];
  if (threadIdx.x == 0) {
    blocks.share(shared.cluster_lengths + blocks.rank(), longest);
  }
}

// Channels that a block holds back until their length is known, at most.
template <typename In>
__host__ __device__ int pooled_floats(const Arguments& args, int blocks) {
  return args.holds_back() ? round_up(divide_up(args.pooled_channels, blocks), kVector<In>) : 0;
}

// Grid (images), or (images x cluster).
template <typename In, Layout kLayout>
__global__ void __launch_bounds__(kThreads, 2) pool_images(const Arguments args) {
  ImageBlocks blocks;
  const int image = static_cast<int>(blockIdx.x) / blocks.size();
  const SharedMemory shared = shared_memory<In>(pooled_floats<In>(args, blocks.size()));
  CostTile<In, kLayout> costs(args, embeddings_of<In>(args, image), shared);

  blocks.sync();  // no block writes to another that has not started
  if (args.solves()) {
    const int span = span_of(args.locations, blocks.size());
    float longest = 0.0F;
    for (int first = blocks.rank() * span; first < args.locations; first += blocks.size() * span) {
      log_mass_of_locations(costs, args, shared, first, span, [&](int i, float l, float length) {
        blocks.share(shared.log_mass + i, l);
        longest = fmaxf(longest, length);
      });
    }
    share_longest(blocks, shared, args, longest);
    blocks.sync();  // every location's log-mass is there
  }
  const Solution solution = solve(shared.log_mass, args, shared.team);
  if (args.attributes != nullptr && blocks.rank() == 0) {
    write_log_mass(args, image, shared.log_mass);
    if (threadIdx.x == 0) {
      write_solution(args, image, solution);
    }
  }
  __syncthreads();  // nobody reads the log-masses any more
  write_weights(args, shared, solution, image, blocks.rank() == 0);

  const Channels<In> channels = channels_of<In>(args, image, blocks.rank(), blocks.size());
  float* own = reinterpret_cast<float*>(shared.stage) + kPoolFloats<In>;
  const size_t row = static_cast<size_t>(image) * args.pooled_channels;
  pool<In, kLayout>(channels, shared.log_mass, args, shared.stage, [&](int channel, float value) {
    if (args.holds_back()) {
      own[channel - channels.first] = value;
    } else {
      store_output(args.pooled, row + channel, value, args.output_type);
    }
  });
  if (args.holds_back()) {
    __syncthreads();  // the pooled channels are there
    write_held_back(blocks, shared, args, own, channels.first, channels.end - channels.first,
                    image);
  }
}

}  // namespace gsp_deploy
