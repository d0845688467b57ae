// What one launch leaves in the workspace for the next, by image.
#pragma once

#include "transport.cuh"

namespace gsp_deploy {

__device__ inline float* log_mass_of(const Arguments& args, int image) {
  return args.log_mass + static_cast<size_t>(image) * args.locations;
}

__device__ inline float* lengths_of(const Arguments& args, int image) {
  return args.lengths + static_cast<size_t>(image) * args.locations;
}

__device__ inline void write_log_mass(const Arguments& args, int image, const float* from) {
  float* to = log_mass_of(args, image);
  for (int i = threadIdx.x; i < args.locations; i += kThreads) {
    to[i] = from[i];
  }
}

// Ends with a barrier.
__device__ inline void read_log_mass(const Arguments& args, int image, float* to) {
  const float* from = log_mass_of(args, image);
  for (int i = threadIdx.x; i < args.locations; i += kThreads) {
    to[i] = from[i];
  }
  __syncthreads();  // the log-masses are read
}

__device__ inline void write_solution(const Arguments& args, int image, Solution solution) {
  args.solution[2 * static_cast<size_t>(image)] = solution.beta;
  args.solution[2 * static_cast<size_t>(image) + 1] = solution.shift;
}

__device__ inline Solution read_solution(const Arguments& args, int image) {
  return {args.solution[2 * static_cast<size_t>(image)],
          args.solution[2 * static_cast<size_t>(image) + 1]};
}

}  // namespace gsp_deploy
