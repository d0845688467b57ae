// Generalized Sum Pooling of one batch of images, as plain CUDA: no TensorRT here.
//
// The 1x1 embedding product stays outside: a convolution that the runtime tunes on its own. The
// kernel takes its result, the per-location embeddings f, solves the transport and pools:
//
//   pooling  reads                      writes `pooled`
//   kGap     embeddings                 (B, D): mean_i w_i f_i, L2-normalised when asked to
//   kGmp     embeddings and features x  (B, C): max_i w_i x_i
//   kGem     embeddings and features x  (B, C): (mean_i max(w_i x_i, 1e-6)^p)^(1/p)
//
// An answer can carry its own certificate: `residual` is the mean absolute error of the image's
// weights, and with kGap `embedding_bound` bounds the relative error of `pooled` before its
// normalisation. Below 1 it bounds the cosine distance of `pooled` to the exact one too.
// A NaN or an infinity among an image's inputs makes its weights, `pooled` and certificate NaN, and
// those of no other image.
//
// What follows stays outside too: W v + b for kGmp and kGem (a 1x1 convolution), the max residual
// (W max_i x_i: ReduceMax and a convolution), and the normalisation wherever one of these comes
// before it.
//
// Layouts: kChannelsFirst is (B, channels, N), kChannelsLast (B, N, channels); N = H * W locations.
#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>
#include <cstdint>
#include <string>

namespace gsp_deploy {

// The numbers are part of the serialised plugin: never renumber.
enum class DataType : int32_t { kFloat32 = 0, kFloat16 = 1, kBFloat16 = 2 };
enum class Layout : int32_t { kChannelsFirst = 0, kChannelsLast = 1 };
enum class Solver : int32_t { kFixedPoint = 0, kNewton = 1, kCertified = 2 };
enum class Pooling : int32_t { kGap = 0, kGmp = 1, kGem = 2 };

// How an image's work is laid over the device. All three compute the same, within rounding; each
// is bitwise the same from run to run. An adapter offers them to TensorRT as tactics.
enum class Plan : int32_t {
  kAuto = 0,     // chosen by shape and device
  kBlock = 1,    // one launch, a thread block an image: runs everywhere
  kCluster = 2,  // one launch, a cluster of thread blocks an image: compute capability 9.0 and up
  kSplit = 3,    // two launches, three with a normalisation: few images with much work each
};  // Attributes, when they are wanted, take one more launch with any plan.

constexpr int32_t kMaxBatch = 1 << 22;
constexpr int32_t kMaxLocations = 4096;
constexpr int32_t kMaxPrototypes = 1024;
constexpr int32_t kMaxEmbeddingDim = 4096;
constexpr int32_t kMaxChannels = 65536;
constexpr int32_t kMaxGridPoints = 4096;

struct PoolingParams {
  // Shapes. `batch` may be 0: nothing is launched.
  int32_t batch = 0;
  int32_t locations = 0;       // N
  int32_t embedding_dim = 0;   // D
  int32_t num_prototypes = 0;  // M
  int32_t channels = 0;        // C of the features; 0 with kGap, which does not read them

  // Settings, as in gsp_deploy.GSPConfig.
  float transport_ratio = 0.3F;  // mu in (0, 1]; 1 is exactly the average (maximum, p-mean)
  float entropy_weight = 5.0F;   // gamma in (0, 1e6]
  Solver solver = Solver::kNewton;
  int32_t iterations = 20;    // with kCertified: steps on the exponential model
  int32_t grid_points = 0;    // G of kCertified, from 1 to kMaxGridPoints; 0 with the others
  float initial_scale = 0.0F;  // t(0) of the fixed-point iteration in [1e-30, 1e30]; 0 means mu
  Pooling pooling = Pooling::kGap;
  float power = 3.0F;      // p of kGem, |p| in [1e-3, 1e3]
  bool normalize = false;  // L2-normalise `pooled`: kGap only

  // Formats. Cost and solver are in float32 whatever these say.
  DataType input_type = DataType::kFloat32;   // of embeddings and features
  DataType output_type = DataType::kFloat32;  // of pooled, weights and attributes
  Layout layout = Layout::kChannelsFirst;     // of embeddings and features
};

// Device pointers, at any multiple of their element's size: the kernels look at the addresses, load
// vectors where rows begin at multiples of 16 bytes and elements where not, and give the same bits.
struct PoolingTensors {
  const void* embeddings = nullptr;   // f: (B, D, N) or (B, N, D)
  const void* features = nullptr;     // x: (B, C, N) or (B, N, C); null with kGap
  const float* prototypes = nullptr;  // (M, D) float32, already inside the unit ball
  void* pooled = nullptr;             // (B, D) or (B, C)
  void* weights = nullptr;            // w: (B, N), mean 1; null when not wanted
  void* attributes = nullptr;         // (B, M), sums to 1; null when not wanted
  float* residual = nullptr;          // (B): |mean_i w_i - 1|; null when not wanted
  float* embedding_bound = nullptr;   // (B), kGap with a residual only; null when not wanted
};

// What the choice of a plan depends on.
struct Device {
  int32_t compute_capability = 0;  // 10 * major + minor
  int32_t multiprocessors = 0;
};

// Return what is wrong with the parameters in one line (expected, received), or "".
std::string problem_with(const PoolingParams& params);

// Return what is wrong with the tensors (one is missing that the parameters need, or begins between
// two elements), or "".
std::string problem_with(const PoolingParams& params, const PoolingTensors& tensors);

// Fill `device` with the properties of the current device.
cudaError_t query_device(Device* device) noexcept;

// Whether the plan can run on that device.
bool plan_is_possible(Plan plan, const Device& device) noexcept;

// Return the plan that kAuto stands for.
Plan choose_plan(const PoolingParams& params, const Device& device) noexcept;

// Return the workspace that any plan needs for these parameters, in bytes. It grows with batch,
// locations and embedding_dim: ask with the largest shapes of an optimisation profile.
size_t workspace_bytes(const PoolingParams& params) noexcept;

// Pool on `stream`, without waiting. `workspace` is device memory of workspace_bytes(params),
// aligned to 16 bytes; null will do for kBlock and kCluster where no attributes are wanted. Return
// cudaErrorInvalidValue for parameters or tensors with a problem, cudaErrorNotSupported for a plan
// that is not possible, else what the launches returned.
cudaError_t launch_pooling(const PoolingParams& params, const PoolingTensors& tensors,
                           void* workspace, cudaStream_t stream,
                           Plan plan = Plan::kAuto) noexcept;

}  // namespace gsp_deploy
