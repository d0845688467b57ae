// The mixing weights in place of the log-masses, and what an answer says of its own error.
//
// All weights rise together with beta, so that their errors share a sign: the residual
// |mean_i w_i - 1| is their mean absolute error, and with kGap |f|'s largest times it is how far
// `pooled` is off.
#pragma once

#include "workspace.cuh"

namespace gsp_deploy {

// Write the weights over the log-masses in shared memory, for all threads to read. The block that
// `answers` writes them, and the residual, to the outputs.
__device__ inline void write_weights(const Arguments& args, const SharedMemory& shared,
                                     Solution solution, int image, bool answers) {
  Values<1> sum = {};
  for (int i = threadIdx.x; i < args.locations; i += kThreads) {
    const float weight = mixing_weight(args, solution, shared.log_mass[i]);
    shared.log_mass[i] = weight;
    sum.at[0] += weight;
    if (args.weights != nullptr && answers) {
      store_output(args.weights, static_cast<size_t>(image) * args.locations + i, weight,
                   args.output_type);
    }
  }
  __syncthreads();  // the weights are there
  if (args.residual != nullptr && answers) {
    BlockTeam team{shared.team};
    sum = team.reduce<Sum>(sum);
    if (threadIdx.x == 0) {
      args.residual[image] = fabsf(sum.at[0] / static_cast<float>(args.locations) - 1.0F);
    }
  }
}

// Return how far `pooled` can be off, over its length. Below 1 this bounds its cosine distance to the
// exact one too (gsp_deploy/layers/residual.py).
__device__ inline float embedding_bound(float residual, float longest, float length) {
  return residual * longest / fmaxf(length, kNormFloor);
}

}  // namespace gsp_deploy
