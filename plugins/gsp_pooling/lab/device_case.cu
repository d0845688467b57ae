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

// Copy (B, channels, N) to the device in the type and the layout that the parameters name.
void upload(const std::vector<double>& values, const PoolingParams& p, int channels,
            const Buffer& to) {
  std::vector<unsigned char> bytes(to.bytes());
  const size_t size = size_of(p.input_type), N = p.locations;
  for (size_t at = 0; at < values.size(); ++at) {
    const size_t i = at % N, c = at / N % channels, image = at / N / channels;
    const bool last = p.layout == Layout::kChannelsLast;
    const size_t place = last ? (image * N + i) * channels + c : at;
    store(bytes.data() + place * size, values[at], p.input_type);
  }
  check(cudaMemcpy(to.data(), bytes.data(), bytes.size(), cudaMemcpyHostToDevice), "upload");
}

std::vector<double> download(const Buffer& from, size_t count) {
  std::vector<float> values(count);
  check(cudaMemcpy(values.data(), from.data(), count * 4, cudaMemcpyDeviceToHost), "download");
  return {values.begin(), values.end()};
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

DeviceCase::DeviceCase(const PoolingParams& p, bool wants_attributes)
    : params_(p),
      wants_attributes_(wants_attributes),
      inputs_(draw_inputs(p)),
      embeddings_(inputs_.embeddings.size() * size_of(p.input_type)),
      features_(inputs_.features.size() * size_of(p.input_type)),
      prototypes_(inputs_.prototypes.size() * 4),
      pooled_(p.batch * pooled_channels(p) * 4),
      weights_(static_cast<size_t>(p.batch) * p.locations * 4),
      attributes_(static_cast<size_t>(p.batch) * p.num_prototypes * 4),
      workspace_(workspace_bytes(p)) {
  upload(inputs_.embeddings, p, p.embedding_dim, embeddings_);
  if (!inputs_.features.empty()) {
    upload(inputs_.features, p, p.channels, features_);
  }
  const std::vector<float> prototypes(inputs_.prototypes.begin(), inputs_.prototypes.end());
  check(cudaMemcpy(prototypes_.data(), prototypes.data(), prototypes_.bytes(),
                   cudaMemcpyHostToDevice),
        "upload");
}

cudaError_t DeviceCase::launch(Plan plan, cudaStream_t stream) const {
  PoolingTensors tensors;
  tensors.embeddings = embeddings_.data();
  tensors.features = features_.data();
  tensors.prototypes = static_cast<const float*>(prototypes_.data());
  tensors.pooled = pooled_.data();
  tensors.weights = weights_.data();
  tensors.attributes = wants_attributes_ ? attributes_.data() : nullptr;
  return launch_pooling(params_, tensors, workspace_.data(), stream, plan);
}

Outputs DeviceCase::fetch() const {
  check(cudaDeviceSynchronize(), "the kernel");
  const size_t batch = params_.batch;
  Outputs out;
  out.pooled = download(pooled_, batch * pooled_channels(params_));
  out.weights = download(weights_, batch * params_.locations);
  out.attributes = download(attributes_, batch * params_.num_prototypes);
  return out;
}

}  // namespace gsp_deploy::lab
