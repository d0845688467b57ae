// What every kernel here is given, and the constants that they share.
#pragma once

#include <cuda_runtime.h>

#include "../gsp_pooling.h"

namespace gsp_deploy {

constexpr int kThreads = 256;
constexpr int kWarpSize = 32;
constexpr int kWarps = kThreads / kWarpSize;
constexpr int kTile = 64;         // locations and prototypes of one tile of the cost product
constexpr int kClusterBlocks = 8;  // the largest cluster that every device with clusters takes

// The same as gsp_deploy/base/constants.py.
constexpr float kSmallestSlope = 1e-30F;
constexpr float kGemFloor = 1e-6F;
constexpr float kNormFloor = 1e-12F;

// The same as gsp_deploy/float32_bounds.py.
constexpr float kUnitRoundoff = 5.9604645e-8F;     // 2^-24
constexpr float kSmallestDivisor = 3.8146973e-6F;  // 2^-18

constexpr float kLargestFloat = 3.402823466e+38F;

// PoolingParams and PoolingTensors with what can be derived once, on the host and in double.
struct Arguments {
  const void* embeddings;
  const void* features;
  const float* prototypes;
  void* pooled;
  void* weights;
  void* attributes;
  float* residual;         // (B)
  float* embedding_bound;  // (B)

  // What one launch leaves for the next: for the attributes, and within kSplit.
  float* log_mass;  // (B, N)
  float* solution;  // (B, 2): beta and the shift it belongs to
  float* lengths;   // (B, N): |f| of the locations, kSplit with an embedding_bound only
  float* unscaled;  // (B, D): `pooled` before its normalisation, kSplit only

  int locations;
  int embedding_dim;
  int num_prototypes;
  int pooled_channels;  // D for kGap, else C

  Solver solver;
  int iterations;
  int grid_points;
  float ratio;
  float inverse_ratio;
  float log_ratio;
  float logit_ratio;
  float log_initial_scale;
  float entropy_weight;
  float near_square;  // pairs whose c^2 is below it are summed as differences
  Pooling pooling;
  float power;
  bool normalize;
  DataType output_type;

  __host__ __device__ bool keeps_everything() const { return ratio == 1.0F; }
  __host__ __device__ bool solves() const { return !keeps_everything() || attributes != nullptr; }
  // Whether `pooled` waits for its length.
  __host__ __device__ bool holds_back() const { return normalize || embedding_bound != nullptr; }
  __host__ __device__ const void* pooled_input() const {
    return pooling == Pooling::kGap ? embeddings : features;
  }
};

constexpr __host__ __device__ int divide_up(int value, int by) { return (value + by - 1) / by; }
constexpr __host__ __device__ int round_up(int value, int to) { return divide_up(value, to) * to; }

}  // namespace gsp_deploy
