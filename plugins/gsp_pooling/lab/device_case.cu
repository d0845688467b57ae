#include "device_case.h"

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <random>

namespace gsp_deploy::lab {
namespace {

size_t size_of(DataType type) { return type == DataType::kFloat32 ? 4 : 2; }

double rounded(double value, DataType type) {
  const float single = static_cast<float>(value);
  switch (type) {
    case DataType::kFloat16:
      return __half2float(__float2half_rn(single));
    case DataType::kBFloat16:
      return __bfloat162float(__float2bfloat16_rn(single));
    default:
      return single;
  }
}

void store(unsigned char* to, double value, DataType type) {
  const float single = static_cast<float>(value);
  if (type == DataType::kFloat32) {
    std::memcpy(to, &single, 4);
  } else if (type == DataType::kFloat16) {
    const __half half = __float2half_rn(single);
    std::memcpy(to, &half, 2);
  } else {
    const __nv_bfloat16 brief = __float2bfloat16_rn(single);
    std::memcpy(to, &brief, 2);
  }
}

std::vector<double> draw(size_t count, double scale, unsigned seed, DataType type) {
  std::mt19937 engine(seed);
  std::normal_distribution<double> normal;
  std::vector<double> values(count);
  for (double& value : values) {
    value = rounded(scale * normal(engine), type);
  }
  return values;
}

// Copy (B, channels, N) to the device in the type and the layout that the parameters name, `shift`
// bytes behind the beginning of the memory.
void upload(const std::vector<double>& values, const PoolingParams& p, int channels, size_t shift,
            const Buffer& to) {
  std::vector<unsigned char> bytes(to.bytes());
  const size_t size = size_of(p.input_type), N = p.locations;
  for (size_t at = 0; at < values.size(); ++at) {
    const size_t i = at % N, c = at / N % channels, image = at / N / channels;
    const bool last = p.layout == Layout::kChannelsLast;
    const size_t place = last ? (image * N + i) * channels + c : at;
    store(bytes.data() + shift + place * size, values[at], p.input_type);
  }
  check(cudaMemcpy(to.data(), bytes.data(), bytes.size(), cudaMemcpyHostToDevice), "upload");
}

double load(const unsigned char* from, DataType type) {
  if (type == DataType::kFloat32) {
    float value;
    std::memcpy(&value, from, 4);
    return value;
  }
  if (type == DataType::kFloat16) {
    __half value;
    std::memcpy(&value, from, 2);
    return __half2float(value);
  }
  __nv_bfloat16 value;
  std::memcpy(&value, from, 2);
  return __bfloat162float(value);
}

std::vector<double> download(const Buffer& from, size_t count, DataType type) {
  const size_t size = size_of(type);
  std::vector<unsigned char> bytes(count * size);
  check(cudaMemcpy(bytes.data(), from.data(), bytes.size(), cudaMemcpyDeviceToHost), "download");
  std::vector<double> values(count);
  for (size_t at = 0; at < count; ++at) {
    values[at] = load(bytes.data() + at * size, type);
  }
  return values;
}

Inputs draw_inputs(const PoolingParams& p) {
  const size_t batch = p.batch, N = p.locations, D = p.embedding_dim;
  const double scale = 0.9 / std::sqrt(p.embedding_dim);  // lengths around 1: inside and outside
  Inputs inputs;
  inputs.embeddings = draw(batch * D * N, scale, 1, p.input_type);
  inputs.features = draw(batch * p.channels * N, 1, 2, p.input_type);
  inputs.prototypes = draw(p.num_prototypes * D, 1.2 * scale, 3, DataType::kFloat32);
  for (size_t j = 0; j < static_cast<size_t>(p.num_prototypes); ++j) {
    double square = 0;
    for (size_t d = 0; d < D; ++d) {
      square += inputs.prototypes[j * D + d] * inputs.prototypes[j * D + d];
    }
    for (size_t d = 0; d < D; ++d) {
      double& value = inputs.prototypes[j * D + d];
      value = static_cast<float>(value / std::max(1.0, std::sqrt(square)));
    }
  }
  return inputs;
}

size_t pooled_channels(const PoolingParams& p) {
  return p.pooling == Pooling::kGap ? p.embedding_dim : p.channels;
}

}  // namespace

void check(cudaError_t error, const char* what) {
  if (error != cudaSuccess) {
    std::fprintf(stderr, "lab: %s: %s\n", what, cudaGetErrorString(error));
    std::exit(1);
  }
}

Buffer::Buffer(size_t bytes) : bytes_(bytes) {
  check(cudaMalloc(&data_, std::max<size_t>(bytes, 16)), "device memory");
}
Buffer::~Buffer() { cudaFree(data_); }

DeviceCase::DeviceCase(const PoolingParams& p, bool wants_attributes, bool misaligned)
    : params_(p),
      wants_attributes_(wants_attributes),
      shift_(misaligned ? size_of(p.input_type) : 0),
      inputs_(draw_inputs(p)),
      embeddings_(inputs_.embeddings.size() * size_of(p.input_type) + shift_),
      features_(inputs_.features.size() * size_of(p.input_type) + shift_),
      prototypes_(inputs_.prototypes.size() * 4),
      pooled_(p.batch * pooled_channels(p) * 4),
      weights_(static_cast<size_t>(p.batch) * p.locations * 4),
      attributes_(static_cast<size_t>(p.batch) * p.num_prototypes * 4),
      workspace_(workspace_bytes(p)) {
  upload(inputs_.embeddings, p, p.embedding_dim, shift_, embeddings_);
  if (!inputs_.features.empty()) {
    upload(inputs_.features, p, p.channels, shift_, features_);
  }
  const std::vector<float> prototypes(inputs_.prototypes.begin(), inputs_.prototypes.end());
  check(cudaMemcpy(prototypes_.data(), prototypes.data(), prototypes_.bytes(),
                   cudaMemcpyHostToDevice),
        "upload");
}

cudaError_t DeviceCase::launch(Plan plan, cudaStream_t stream) const {
  PoolingTensors tensors;
  tensors.embeddings = static_cast<unsigned char*>(embeddings_.data()) + shift_;
  tensors.features = static_cast<unsigned char*>(features_.data()) + shift_;
  tensors.prototypes = static_cast<const float*>(prototypes_.data());
  tensors.pooled = pooled_.data();
  tensors.weights = weights_.data();
  tensors.attributes = wants_attributes_ ? attributes_.data() : nullptr;
  return launch_pooling(params_, tensors, workspace_.data(), stream, plan);
}

cudaError_t DeviceCase::launch_captured(Plan plan) const {
  cudaStream_t stream;
  cudaGraph_t graph;
  cudaGraphExec_t ready;
  check(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), "stream");
  check(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal), "capture");
  const cudaError_t error = launch(plan, stream);
  check(cudaStreamEndCapture(stream, &graph), "capture");
  check(cudaGraphInstantiateWithFlags(&ready, graph, 0), "graph");
  check(cudaGraphLaunch(ready, stream), "graph");
  check(cudaStreamSynchronize(stream), "graph");
  cudaGraphExecDestroy(ready);
  cudaGraphDestroy(graph);
  cudaStreamDestroy(stream);
  return error;
}

Outputs DeviceCase::fetch() const {
  check(cudaDeviceSynchronize(), "the kernel");
  const size_t batch = params_.batch;
  Outputs out;
  const DataType type = params_.output_type;
  out.pooled = download(pooled_, batch * pooled_channels(params_), type);
  out.weights = download(weights_, batch * params_.locations, type);
  out.attributes = download(attributes_, batch * params_.num_prototypes, type);
  return out;
}

}  // namespace gsp_deploy::lab
