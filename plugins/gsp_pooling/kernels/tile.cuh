// One tile of the cost product: which prototypes and locations of an image it covers.
#pragma once

#include "shared.cuh"

namespace gsp_deploy {

// One 64 x 64 tile; `prototypes` and `locations` say how much of it exists.
struct Tile {
  int first_prototype;
  int prototypes;
  int first_location;
  int locations;
};

__device__ inline Tile tile_of(const Arguments& args, int first_prototype, int first_location,
                               int span) {
  return {first_prototype, min(kTile, args.num_prototypes - first_prototype), first_location,
          min(span, args.locations - first_location)};
}

template <typename In>
__device__ const In* embeddings_of(const Arguments& args, int image) {
  const size_t size = static_cast<size_t>(args.embedding_dim) * args.locations;
  return static_cast<const In*>(args.embeddings) + image * size;
}

}  // namespace gsp_deploy
