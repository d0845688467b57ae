// p.f of one tile by float32 multiply-adds: for float32, and for what has no matrix units.
#pragma once

#include "shared.cuh"

namespace gsp_deploy {

template <typename In, Layout kLayout>
class ScalarProduct {
 public:
  static constexpr int kDepth = kScalarDepth;

  __device__ explicit ScalarProduct(unsigned char* stage)
      : prototypes_(reinterpret_cast<float*>(stage)),
        embeddings_(prototypes_ + kTile * kScalarStride) {
#pragma unroll
    for (int cell = 0; cell < kSide * kSide; ++cell) {
      sums_[cell / kSide][cell % kSide] = 0.0F;
    }
  }

  __device__ void stage_prototypes(int row, int column, const Vector<float>& vector) {
    *reinterpret_cast<Vector<float>*>(prototypes_ + row * kScalarStride + column) = vector;
  }

  __device__ void stage_embeddings(int row, int column, const Vector<In>& vector) {
#pragma unroll
    for (int k = 0; k < kVector<In>; ++k) {
      embeddings_[row * kEmbeddingStride + column + k] = to_float(vector.at(k));
    }
  }

  // Add the products of what is staged: every sixteenth prototype by every sixteenth location.
  __device__ void multiply(int, int) {
    constexpr int kStep = kVector<float>;
    const int prototype = threadIdx.x / kAcross;
    const int location = threadIdx.x % kAcross;
    for (int k = 0; k < kDepth; k += kStep) {
      float p[kSide][kStep];
      float f[kSide][kStep];
#pragma unroll
      for (int i = 0; i < kSide; ++i) {
        read_prototype(p[i], prototype + i * kAcross, k);
        read_embedding(f[i], location + i * kAcross, k);
      }
#pragma unroll
      for (int s = 0; s < kStep; ++s) {
#pragma unroll
        for (int cell = 0; cell < kSide * kSide; ++cell) {
          float& sum = sums_[cell / kSide][cell % kSide];
          sum = fmaf(p[cell / kSide][s], f[cell % kSide][s], sum);
        }
      }
    }
  }

  __device__ void store(float* products, int, int) {
#pragma unroll
    for (int cell = 0; cell < kSide * kSide; ++cell) {
      const int row = threadIdx.x / kAcross + cell / kSide * kAcross;
      const int column = threadIdx.x % kAcross + cell % kSide * kAcross;
      products[row * kScoresStride + column] = sums_[cell / kSide][cell % kSide];
    }
  }

 private:
  static constexpr int kAcross = 16;
  static constexpr int kSide = kTile / kAcross;
  static constexpr bool kLast = kLayout == Layout::kChannelsLast;
  static constexpr int kEmbeddingStride = kLast ? kScalarStride : kTile + 4;
  static_assert(kAcross * kAcross == kThreads, "one thread a cell");
  static_assert(kDepth * (kTile + 4) <= kTile * kScalarStride, "both layouts fit");

  __device__ void read_prototype(float* to, int prototype, int k) const {
    const auto vector =
        *reinterpret_cast<const Vector<float>*>(prototypes_ + prototype * kScalarStride + k);
#pragma unroll
    for (int s = 0; s < kVector<float>; ++s) {
      to[s] = vector.at(s);
    }
  }

  __device__ void read_embedding(float* to, int location, int k) const {
#pragma unroll
    for (int s = 0; s < kVector<float>; ++s) {
      to[s] = kLast ? embeddings_[location * kEmbeddingStride + k + s]
                    : embeddings_[(k + s) * kEmbeddingStride + location];
    }
  }

  float* prototypes_;
  float* embeddings_;
  float sums_[kSide][kSide];
};

}  // namespace gsp_deploy
