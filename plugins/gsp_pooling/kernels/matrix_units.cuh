// p.f of one tile on the matrix units, float16 or bfloat16 in, float32 out.
//
// The prototypes come in float32. Rounding them to 16 bits would add an error as large as the
// embeddings' own; so each is split in two halves, high + low, whose products go to the same
// accumulator. The matrix units have the room: at these sizes the loads are what takes the time.
#pragma once

#include <mma.h>

#include "shared.cuh"

namespace gsp_deploy {

// Whether the target multiplies this type on its matrix units. Turing has no bfloat16.
template <typename In>
constexpr bool kOnMatrixUnits = false;
#ifndef GSP_NO_MATRIX_UNITS
template <>
constexpr bool kOnMatrixUnits<__half> = true;
#if !defined(__CUDA_ARCH__) || __CUDA_ARCH__ >= 800
template <>
constexpr bool kOnMatrixUnits<__nv_bfloat16> = true;
#endif
#endif

template <typename In, Layout kLayout>
class MatrixProduct {
 public:
  static constexpr int kDepth = kMatrixDepth;

  __device__ explicit MatrixProduct(unsigned char* stage)
      : high_(reinterpret_cast<In*>(stage)),
        low_(high_ + kTile * kMatrixStride),
        embeddings_(low_ + kTile * kMatrixStride) {
    nvcuda::wmma::fill_fragment(sums_[0], 0.0F);
    nvcuda::wmma::fill_fragment(sums_[1], 0.0F);
  }

  __device__ void stage_prototypes(int row, int column, const Vector<float>& vector) {
    using Packed = Vector<In, kVector<float> * sizeof(In)>;  // one store, not one an element
    Packed high = {};
    Packed low = {};
#pragma unroll
    for (int k = 0; k < kVector<float>; ++k) {
      const float value = vector.at(k);
      const In rounded = from_float<In>(value);
      high.put(k, rounded);
      low.put(k, from_float<In>(value - to_float(rounded)));
    }
    const int at = row * kMatrixStride + column;
    *reinterpret_cast<Packed*>(high_ + at) = high;
    *reinterpret_cast<Packed*>(low_ + at) = low;
  }

  __device__ void stage_embeddings(int row, int column, const Vector<In>& vector) {
    *reinterpret_cast<Vector<In>*>(embeddings_ + row * kMatrixStride + column) = vector;
  }

  // Add the products of what is staged. A warp has one 16-row strip of prototypes and every other
  // 16-column strip of locations. All loads come before the first branch: they wait together.
  __device__ void multiply(int prototypes, int locations) {
    if (strip_row() >= prototypes || strip_column(0) >= locations) {
      return;
    }
    const In* high = high_ + strip_row() * kMatrixStride;
    const In* low = low_ + strip_row() * kMatrixStride;
#pragma unroll 1  // more at a time would spill
    for (int k = 0; k < kDepth; k += kFragment) {
      PrototypeFragment high_part;
      PrototypeFragment low_part;
      EmbeddingFragment embeddings[kStrips];
      nvcuda::wmma::load_matrix_sync(high_part, high + k, kMatrixStride);
      nvcuda::wmma::load_matrix_sync(low_part, low + k, kMatrixStride);
#pragma unroll
      for (int strip = 0; strip < kStrips; ++strip) {
        nvcuda::wmma::load_matrix_sync(embeddings[strip], embeddings_ + at(strip_column(strip), k),
                                       kMatrixStride);
      }
#pragma unroll
      for (int strip = 0; strip < kStrips; ++strip) {
        if (strip_column(strip) < locations) {
          nvcuda::wmma::mma_sync(sums_[strip], high_part, embeddings[strip], sums_[strip]);
          nvcuda::wmma::mma_sync(sums_[strip], low_part, embeddings[strip], sums_[strip]);
        }
      }
    }
  }

  // Write the products as (kTile prototypes, kScoresStride); only strips in use are written.
  __device__ void store(float* products, int prototypes, int locations) {
    if (strip_row() >= prototypes) {
      return;
    }
#pragma unroll
    for (int strip = 0; strip < kStrips; ++strip) {
      if (strip_column(strip) < locations) {
        nvcuda::wmma::store_matrix_sync(
            products + strip_row() * kScoresStride + strip_column(strip), sums_[strip],
            kScoresStride, nvcuda::wmma::mem_row_major);
      }
    }
  }

 private:
  static constexpr int kFragment = 16;
  static constexpr int kStrips = 2;
  static constexpr int kRowStrips = kTile / kFragment;
  static constexpr bool kLast = kLayout == Layout::kChannelsLast;
  static_assert(kWarps * kStrips == kRowStrips * kRowStrips, "every strip has its warp");

  using Order = typename std::conditional<kLast, nvcuda::wmma::col_major,
                                          nvcuda::wmma::row_major>::type;
  using PrototypeFragment =
      nvcuda::wmma::fragment<nvcuda::wmma::matrix_a, kFragment, kFragment, kFragment, In,
                             nvcuda::wmma::row_major>;
  using EmbeddingFragment = nvcuda::wmma::fragment<nvcuda::wmma::matrix_b, kFragment, kFragment,
                                                   kFragment, In, Order>;
  using SumFragment =
      nvcuda::wmma::fragment<nvcuda::wmma::accumulator, kFragment, kFragment, kFragment, float>;

  __device__ static int warp() { return static_cast<int>(threadIdx.x) / kWarpSize; }
  __device__ static int strip_row() { return warp() % kRowStrips * kFragment; }
  __device__ static int strip_column(int strip) {
    return (warp() / kRowStrips + strip * (kWarps / kRowStrips)) * kFragment;
  }
  __device__ static int at(int location, int k) {
    return kLast ? location * kMatrixStride + k : k * kMatrixStride + location;
  }

  In* high_;
  In* low_;
  In* embeddings_;
  SumFragment sums_[kStrips];
};

}  // namespace gsp_deploy
