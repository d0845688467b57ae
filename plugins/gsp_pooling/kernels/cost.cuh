// Scores -gamma c of one tile of prototypes by locations, c_ji = |p_j - f_i / max(1, |f_i|)|.
//
// c^2 = |p|^2 + min(|f|^2, 1) - 2 p.f / max(|f|, 1): one matrix product over raw f, and two sums of
// squares that are taken while the operands pass through registers. Near pairs: distances.cuh.
#pragma once

#include <type_traits>

#include "distances.cuh"
#include "matrix_units.cuh"
#include "scalar_units.cuh"

namespace gsp_deploy {

template <typename In, Layout kLayout>
class CostTile {
 public:
  __device__ CostTile(const Arguments& args, const In* embeddings, const SharedMemory& shared)
      : args_(args), embeddings_(embeddings), shared_(shared) {
    prototypes_aligned_ = rows_are_aligned(args.prototypes, args.embedding_dim);
    embeddings_aligned_ = rows_are_aligned(embeddings, stride());
  }

  // Leave the squared distances of a tile in shared memory. Begins and ends with a barrier.
  __device__ void compute(const Tile& tile) {
    __syncthreads();  // the stage is free
    Product product(shared_.stage);
    Squares squares;
    Registers registers;
    load(registers, tile, 0);
    for (int depth = 0; depth < args_.embedding_dim; depth += kDepth) {
      stage(product, squares, registers);
      __syncthreads();  // the operands are staged
      if (depth + kDepth < args_.embedding_dim) {
        load(registers, tile, depth + kDepth);  // on its way during the product
      }
      product.multiply(tile.prototypes, tile.locations);
      __syncthreads();  // the operands are used
    }
    product.store(cells(), tile.prototypes, tile.locations);
    reduce(squares);
    __syncthreads();  // products and squares are complete
    Distances<In, kLayout>(args_, embeddings_, tile, shared_).write();
    __syncthreads();  // the distances are complete
  }

  // Return -gamma c of a cell of the tile computed last.
  __device__ float score(int prototype, int location) const {
    return -args_.entropy_weight * sqrtf(cells()[prototype * kScoresStride + location]);
  }

  // Return |f| of a location of the tile computed last, before it is held inside the unit ball.
  __device__ float length(int location) const {
    const float inverse = shared_.inverse_norms[location];
    return inverse < 1.0F ? 1.0F / inverse : sqrtf(shared_.inner_squares[location]);
  }

 private:
  using Product = typename std::conditional<kOnMatrixUnits<In>, MatrixProduct<In, kLayout>,
                                            ScalarProduct<In, kLayout>>::type;
  static constexpr bool kLast = kLayout == Layout::kChannelsLast;
  static constexpr int kDepth = Product::kDepth;
  using PrototypeRegisters = TileRegisters<float, kTile, kDepth>;
  using EmbeddingRegisters =
      TileRegisters<In, kLast ? kTile : kDepth, kLast ? kDepth : kTile>;

  struct Registers {
    PrototypeRegisters prototypes;
    EmbeddingRegisters embeddings;
  };

  // Of embeddings, a thread sees a row a slot (channels last) or the same columns in every slot.
  static constexpr int kEmbeddingSquares = kLast ? EmbeddingRegisters::kSlots : kVector<In>;
  struct Squares {
    float prototypes[PrototypeRegisters::kSlots] = {};
    float embeddings[kEmbeddingSquares] = {};
  };

  __device__ float* cells() const { return reinterpret_cast<float*>(shared_.stage); }
  __device__ int stride() const { return kLast ? args_.embedding_dim : args_.locations; }

  __device__ void load(Registers& registers, const Tile& tile, int depth) const {
    const int left = args_.embedding_dim - depth;
    const size_t first = tile.first_prototype;
    registers.prototypes.load(args_.prototypes + first * args_.embedding_dim + depth,
                              args_.embedding_dim, tile.prototypes, left, prototypes_aligned_);
    const size_t row = kLast ? tile.first_location : depth;
    const size_t column = kLast ? depth : tile.first_location;
    registers.embeddings.load(embeddings_ + row * stride() + column, stride(),
                              kLast ? tile.locations : left, kLast ? left : tile.locations,
                              embeddings_aligned_);
  }

  __device__ void stage(Product& product, Squares& squares, const Registers& registers) const {
#pragma unroll
    for (int slot = 0; slot < PrototypeRegisters::kSlots; ++slot) {
      const auto& vector = registers.prototypes.slots[slot];
      product.stage_prototypes(PrototypeRegisters::row(slot), PrototypeRegisters::column(slot),
                               vector);
#pragma unroll
      for (int k = 0; k < kVector<float>; ++k) {
        squares.prototypes[slot] =
            fmaf(vector.at(k), vector.at(k), squares.prototypes[slot]);
      }
    }
#pragma unroll
    for (int slot = 0; slot < EmbeddingRegisters::kSlots; ++slot) {
      const auto& vector = registers.embeddings.slots[slot];
      product.stage_embeddings(EmbeddingRegisters::row(slot), EmbeddingRegisters::column(slot),
                               vector);
#pragma unroll
      for (int k = 0; k < kVector<In>; ++k) {
        const float value = to_float(vector.at(k));
        float& sum = squares.embeddings[kLast ? slot : k];
        sum = fmaf(value, value, sum);
      }
    }
  }

  // Sum the squares over threads: neighbours in a row, or all that hold the same columns.
  __device__ void reduce(const Squares& squares) const {
    const int lane = static_cast<int>(threadIdx.x) % kWarpSize;
    reduce_rows<PrototypeRegisters>(squares.prototypes, shared_.prototype_squares);
    if (kLast) {
      reduce_rows<EmbeddingRegisters>(squares.embeddings, shared_.partials);
    } else {
      constexpr int kApart = EmbeddingRegisters::kVectorsARow;  // lanes that share columns
      static_assert(kLast || kApart <= kWarpSize, "a row of columns fits a warp");
#pragma unroll
      for (int k = 0; k < kEmbeddingSquares; ++k) {
        float sum = squares.embeddings[k];
#pragma unroll
        for (int distance = kWarpSize / 2; distance >= kApart; distance /= 2) {
          sum += __shfl_xor_sync(kAllLanes, sum, distance);
        }
        if (lane < kApart) {
          const int column = EmbeddingRegisters::column(0) + k;
          shared_.partials[threadIdx.x / kWarpSize * kTile + column] = sum;
        }
      }
    }
    __syncthreads();  // every share of the squares is there
    if (threadIdx.x < kTile) {
      float square = shared_.partials[threadIdx.x];
      for (int warp = 1; !kLast && warp < kWarps; ++warp) {
        square += shared_.partials[warp * kTile + threadIdx.x];
      }
      shared_.inner_squares[threadIdx.x] = fminf(square, 1.0F);
      // A square beyond float32 would make the location's costs wrong without a sign of it.
      shared_.inverse_norms[threadIdx.x] =
          square > kLargestFloat ? square - square : 1.0F / sqrtf(fmaxf(square, 1.0F));
    }
  }

  template <typename Loader>
  __device__ static void reduce_rows(const float* squares, float* to) {
#pragma unroll
    for (int slot = 0; slot < Loader::kSlots; ++slot) {
      float sum = squares[slot];
#pragma unroll
      for (int distance = Loader::kVectorsARow / 2; distance > 0; distance /= 2) {
        sum += __shfl_xor_sync(kAllLanes, sum, distance);
      }
      if (Loader::column(slot) == 0) {
        to[Loader::row(slot)] = sum;
      }
    }
  }

  const Arguments& args_;
  const In* embeddings_;
  const SharedMemory& shared_;
  bool prototypes_aligned_;
  bool embeddings_aligned_;
};

}  // namespace gsp_deploy
