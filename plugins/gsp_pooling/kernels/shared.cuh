// The one block of shared memory that a kernel has, and what lies where in it.
#pragma once

#include "reductions.cuh"
#include "vectors.cuh"

namespace gsp_deploy {

constexpr int kScoresStride = kTile + 4;
constexpr int kScoresFloats = kTile * kScoresStride;

// Operand tiles of the cost product for the matrix units: rows of 64 and a pad against bank
// conflicts that keeps the 32-byte alignment that the fragment loads ask for.
constexpr int kMatrixDepth = 64;
constexpr int kMatrixStride = kMatrixDepth + 8;
constexpr int kMatrixBytes = 3 * kTile * kMatrixStride * 2;

// The same for float32: half as deep, for the same room in registers.
constexpr int kScalarDepth = 32;
constexpr int kScalarStride = kScalarDepth + 4;
constexpr int kScalarBytes = (kTile * kScalarStride + kTile * kScalarStride) * 4;

template <typename In>
constexpr int kProductBytes = sizeof(In) == 2 ? kMatrixBytes : kScalarBytes;

// Partial results of pooling: one float for each of a thread's channels, for kGem two.
template <typename In>
constexpr int kPoolFloats = kVector<In> * kThreads;

// The operand tiles, the scores and the pooling take turns in `stage`.
struct SharedMemory {
  float* partials;        // (8, kTile)
  float* team;            // BlockTeam::kScratch
  float* prototype_squares;  // (kTile)
  float* inner_squares;   // (kTile): min(|f|^2, 1)
  float* inverse_norms;   // (kTile): 1 / max(|f|, 1)
  float* cluster_squares;  // (kClusterBlocks): of each block's pooled channels
  float* cluster_lengths;  // (kClusterBlocks): the largest |f| of each block's locations
  unsigned char* stage;
  float* log_mass;        // (N), later the mixing weights
};

constexpr int kPartialFloats = kWarps * kTile;
constexpr int kFixedFloats =
    kPartialFloats + BlockTeam::kScratch + 3 * kTile + 2 * kClusterBlocks;
static_assert(kFixedFloats % 8 == 0, "the stage behind them is aligned to 32 bytes");

// `pooled_floats`: how many pooled channels a block keeps for their normalisation.
template <typename In>
constexpr __host__ __device__ int stage_bytes(int pooled_floats) {
  const int product = kProductBytes<In> > kScoresFloats * 4 ? kProductBytes<In> : kScoresFloats * 4;
  // What is held back is pooled by kGap, whose partial results are one float each.
  const int behind = pooled_floats > 0 ? pooled_floats : kPoolFloats<In>;
  const int pool = (kPoolFloats<In> + behind) * 4;
  return round_up(product > pool ? product : pool, 32);
}

template <typename In>
constexpr __host__ __device__ int shared_bytes(int locations, int pooled_floats) {
  return kFixedFloats * 4 + stage_bytes<In>(pooled_floats) + locations * 4;
}

template <typename In>
__device__ inline SharedMemory shared_memory(int pooled_floats) {
#ifdef GSP_EMULATION
  unsigned char* base = emulation::dynamic_shared();
#else
  extern __shared__ __align__(128) unsigned char base[];
#endif
  SharedMemory shared;
  float* next = reinterpret_cast<float*>(base);
  shared.partials = next;
  shared.team = next += kPartialFloats;
  shared.prototype_squares = next += BlockTeam::kScratch;
  shared.inner_squares = next += kTile;
  shared.inverse_norms = next += kTile;
  shared.cluster_squares = next += kTile;
  shared.cluster_lengths = next += kClusterBlocks;
  shared.stage = reinterpret_cast<unsigned char*>(next + kClusterBlocks);
  shared.log_mass = reinterpret_cast<float*>(shared.stage + stage_bytes<In>(pooled_floats));
  return shared;
}

}  // namespace gsp_deploy
