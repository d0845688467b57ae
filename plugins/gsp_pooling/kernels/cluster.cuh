// The thread blocks that share one image: a cluster where the device has them, else a single block.
//
// A kernel launched without a cluster is a cluster of one block: the same code serves both plans.
#pragma once

#include "arguments.cuh"

#if defined(GSP_EMULATION) || (defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900)
#define GSP_HAS_CLUSTERS
#include <cooperative_groups.h>
#endif

namespace gsp_deploy {

class ImageBlocks {
 public:
#ifdef GSP_HAS_CLUSTERS
  __device__ int rank() const { return static_cast<int>(cluster_.block_rank()); }
  __device__ int size() const { return static_cast<int>(cluster_.num_blocks()); }

  // Wait for all blocks; what they wrote to each other's shared memory is there afterwards.
  __device__ void sync() {
    if (size() == 1) {
      __syncthreads();
    } else {
      cluster_.sync();
    }
  }

  // Write a float to the same place in every block's shared memory.
  __device__ void share(float* place, float value) {
    for (int block = 0; block < size(); ++block) {
      *cluster_.map_shared_rank(place, block) = value;
    }
  }

 private:
  cooperative_groups::cluster_group cluster_ = cooperative_groups::this_cluster();
#else
  __device__ int rank() const { return 0; }
  __device__ int size() const { return 1; }
  __device__ void sync() { __syncthreads(); }
  __device__ void share(float* place, float value) { *place = value; }
#endif
};

}  // namespace gsp_deploy
