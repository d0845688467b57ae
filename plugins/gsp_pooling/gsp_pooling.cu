// The launcher: parameters become kernel arguments, a plan becomes launches.
#include "gsp_pooling.h"

#include <cmath>
#include <cstdint>
#include <utility>

#include "kernels/split_kernels.cuh"

namespace gsp_deploy {
namespace {

// Images times their parts are one row of blocks, which a grid has up to 2^31 - 1 of.
constexpr bool fits_a_grid(int parts) { return int64_t{kMaxBatch} * parts <= INT32_MAX; }
static_assert(fits_a_grid(kClusterBlocks));
static_assert(fits_a_grid(divide_up(kMaxLocations, kTile)));
static_assert(fits_a_grid(divide_up(kMaxPrototypes, kTile)));
static_assert(fits_a_grid(divide_up(kMaxChannels, kSliceChannels)));

struct Launch {
  dim3 grid;
  int shared_bytes;
  int cluster = 1;
};

template <typename Kernel>
cudaError_t launch(Kernel kernel, const Launch& shape, const Arguments& args,
                   cudaStream_t stream) {
  cudaLaunchConfig_t config = {};
  config.gridDim = shape.grid;
  config.blockDim = dim3(kThreads);
  config.dynamicSmemBytes = static_cast<size_t>(shape.shared_bytes);
  config.stream = stream;
  cudaLaunchAttribute cluster = {};
  cluster.id = cudaLaunchAttributeClusterDimension;
  cluster.val.clusterDim.x = static_cast<unsigned>(shape.cluster);
  cluster.val.clusterDim.y = 1;
  cluster.val.clusterDim.z = 1;
  config.attrs = &cluster;
  config.numAttrs = shape.cluster > 1 ? 1 : 0;
  return cudaLaunchKernelEx(&config, kernel, args);
}

// Return the c^2 below which every pair is summed as differences: where the 2^-20 that the sums of
// the others lose would move a log-mass by 2^-14.
float near_square(float entropy_weight) {
  const float near = std::fmin(entropy_weight / 128.0F, 0.5F);
  return near * near;
}

Arguments arguments_of(const PoolingParams& p, const PoolingTensors& tensors, void* workspace) {
  Arguments args = {};
  args.embeddings = tensors.embeddings;
  args.features = tensors.features;
  args.prototypes = tensors.prototypes;
  args.pooled = tensors.pooled;
  args.weights = tensors.weights;
  args.attributes = tensors.attributes;
  args.residual = tensors.residual;
  args.embedding_bound = tensors.embedding_bound;

  // In the order and the alignment that workspace_bytes counts.
  const size_t batch = static_cast<size_t>(p.batch);
  args.log_mass = static_cast<float*>(workspace);
  args.solution = args.log_mass + (batch * p.locations + 3) / 4 * 4;
  args.lengths = args.solution + (batch * 2 + 3) / 4 * 4;
  args.unscaled = args.lengths + (batch * p.locations + 3) / 4 * 4;

  args.locations = p.locations;
  args.embedding_dim = p.embedding_dim;
  args.num_prototypes = p.num_prototypes;
  args.pooled_channels = p.pooling == Pooling::kGap ? p.embedding_dim : p.channels;

  const double ratio = p.transport_ratio;
  args.solver = p.solver;
  args.iterations = p.iterations;
  args.grid_points = p.grid_points;
  args.ratio = p.transport_ratio;
  args.inverse_ratio = static_cast<float>(1.0 / ratio);
  args.log_ratio = static_cast<float>(std::log(ratio));
  args.logit_ratio = static_cast<float>(std::log(ratio) - std::log1p(-ratio));
  args.log_initial_scale =
      static_cast<float>(std::log(p.initial_scale == 0.0F ? ratio : double{p.initial_scale}));
  args.entropy_weight = p.entropy_weight;
  args.near_square = near_square(p.entropy_weight);
  args.pooling = p.pooling;
  args.power = p.power;
  args.normalize = p.normalize;
  args.output_type = p.output_type;
  return args;
}

template <typename In, Layout kLayout>
cudaError_t launch_images(const Arguments& args, int batch, int blocks, cudaStream_t stream) {
  const int bytes = shared_bytes<In>(args.locations, pooled_floats<In>(args, blocks));
  return launch(pool_images<In, kLayout>, {dim3(batch * blocks), bytes, blocks}, args, stream);
}

template <typename In, Layout kLayout>
cudaError_t launch_split(const Arguments& args, int batch, cudaStream_t stream) {
  const int bytes = shared_bytes<In>(args.locations, 0);
  cudaError_t error = cudaSuccess;
  if (args.solves()) {
    const dim3 grid(divide_up(args.locations, kTile) * batch);
    error = launch(log_mass_of_images<In, kLayout>, {grid, bytes}, args, stream);
  }
  if (error == cudaSuccess) {
    const dim3 grid(divide_up(args.pooled_channels, kSliceChannels) * batch);
    error = launch(pool_slices<In, kLayout>, {grid, bytes}, args, stream);
  }
  if (error == cudaSuccess && args.holds_back()) {
    error = launch(write_rows, {dim3(batch), shared_bytes<float>(0, 0)}, args, stream);
  }
  return error;
}

template <typename In, Layout kLayout>
cudaError_t launch_attributes(const Arguments& args, int batch, cudaStream_t stream) {
  const dim3 grid(divide_up(args.num_prototypes, kTile) * batch);
  const int bytes = shared_bytes<In>(args.locations, 0);
  return launch(attributes_of_images<In, kLayout>, {grid, bytes}, args, stream);
}

template <typename In, Layout kLayout>
cudaError_t launch_plan(Plan plan, const Arguments& args, int batch, cudaStream_t stream) {
  const int blocks = plan == Plan::kCluster ? kClusterBlocks : 1;
  const cudaError_t error = plan == Plan::kSplit
                                ? launch_split<In, kLayout>(args, batch, stream)
                                : launch_images<In, kLayout>(args, batch, blocks, stream);
  if (error != cudaSuccess || args.attributes == nullptr) {
    return error;
  }
  return launch_attributes<In, kLayout>(args, batch, stream);
}

template <typename In>
cudaError_t launch_layout(Layout layout, Plan plan, const Arguments& args, int batch,
                          cudaStream_t stream) {
  return layout == Layout::kChannelsFirst
             ? launch_plan<In, Layout::kChannelsFirst>(plan, args, batch, stream)
             : launch_plan<In, Layout::kChannelsLast>(plan, args, batch, stream);
}

cudaError_t launch_type(const PoolingParams& p, Plan plan, const Arguments& args,
                        cudaStream_t stream) {
  switch (p.input_type) {
    case DataType::kFloat32:
      return launch_layout<float>(p.layout, plan, args, p.batch, stream);
    case DataType::kFloat16:
      return launch_layout<__half>(p.layout, plan, args, p.batch, stream);
    case DataType::kBFloat16:
      return launch_layout<__nv_bfloat16>(p.layout, plan, args, p.batch, stream);
  }
  return cudaErrorInvalidValue;
}

}  // namespace

cudaError_t query_device(Device* device) noexcept {
  int current = 0;
  int major = 0;
  int minor = 0;
  cudaError_t error = cudaGetDevice(&current);
  for (auto [value, attribute] :
       {std::pair{&major, cudaDevAttrComputeCapabilityMajor},
        std::pair{&minor, cudaDevAttrComputeCapabilityMinor},
        std::pair{&device->multiprocessors, cudaDevAttrMultiProcessorCount}}) {
    if (error == cudaSuccess) {
      error = cudaDeviceGetAttribute(value, attribute, current);
    }
  }
  device->compute_capability = 10 * major + minor;
  return error;
}

cudaError_t launch_pooling(const PoolingParams& params, const PoolingTensors& tensors,
                           void* workspace, cudaStream_t stream, Plan plan) noexcept try {
  if (!problem_with(params).empty()) {
    return cudaErrorInvalidValue;
  }
  if (params.batch == 0) {
    return cudaSuccess;
  }
  Device device;
  if (const cudaError_t error = query_device(&device); error != cudaSuccess) {
    return error;
  }
  if (!plan_is_possible(plan, device)) {
    return cudaErrorNotSupported;
  }
  const Plan chosen = plan == Plan::kAuto ? choose_plan(params, device) : plan;
  const bool needs_workspace = chosen == Plan::kSplit || tensors.attributes != nullptr;
  if (!problem_with(params, tensors).empty() || (needs_workspace && workspace == nullptr)) {
    return cudaErrorInvalidValue;
  }
  return launch_type(params, chosen, arguments_of(params, tensors, workspace), stream);
} catch (...) {  // only the text of a problem allocates
  return cudaErrorMemoryAllocation;
}

}  // namespace gsp_deploy
