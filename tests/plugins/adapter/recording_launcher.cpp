// In place of the kernel: writes down what the adapter launches, and plays a device.
#include <cstdio>

#include "gsp_pooling.h"

namespace gsp_deploy {

cudaError_t query_device(Device* device) noexcept {
  device->compute_capability = 87;
  device->multiprocessors = 14;
  return cudaSuccess;
}

cudaError_t launch_pooling(const PoolingParams& p, const PoolingTensors& t, void* workspace,
                           cudaStream_t stream, Plan plan) noexcept {
  std::printf("launched batch=%d locations=%d embedding_dim=%d num_prototypes=%d channels=%d "
              "iterations=%d grid_points=%d pooling=%d solver=%d input_type=%d output_type=%d layout=%d plan=%d "
              "embeddings=%p prototypes=%p features=%p pooled=%p weights=%p attributes=%p "
              "residual=%p embedding_bound=%p "
              "workspace=%p stream=%p\n",
              p.batch, p.locations, p.embedding_dim, p.num_prototypes, p.channels, p.iterations,
              p.grid_points,
              static_cast<int>(p.pooling), static_cast<int>(p.solver),
              static_cast<int>(p.input_type), static_cast<int>(p.output_type),
              static_cast<int>(p.layout), static_cast<int>(plan), t.embeddings,
              static_cast<const void*>(t.prototypes), t.features, t.pooled, t.weights,
              t.attributes, static_cast<void*>(t.residual),
              static_cast<void*>(t.embedding_bound), workspace, static_cast<void*>(stream));
  return cudaSuccess;
}

}  // namespace gsp_deploy

// All that the adapter takes from CUDA's runtime, so that it need not be linked.
extern "C" const char* cudaGetErrorString(cudaError_t) { return "an error"; }
