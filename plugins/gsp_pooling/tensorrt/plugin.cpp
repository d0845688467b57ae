#include "plugin.h"

#include <algorithm>
#include <array>
#include <stdexcept>

#include "log.h"

namespace gsp_deploy::tensorrt {
namespace {

using nvinfer1::Dims;
using nvinfer1::DynamicPluginTensorDesc;
using nvinfer1::PluginCapabilityType;
using nvinfer1::PluginTensorDesc;
using nvinfer1::TensorFormat;
using TensorType = nvinfer1::DataType;

constexpr int32_t kOk = 0;
constexpr int32_t kFailed = -1;
enum Input : int32_t { kEmbeddings, kPrototypes, kFeatures };
constexpr std::array<Plan, 3> kPlans = {Plan::kBlock, Plan::kCluster, Plan::kSplit};
// Plan::kAuto as a tactic: TensorRT keeps 0 for itself, and the others are the plans' own numbers.
constexpr int32_t kAutomatic = 4;
constexpr size_t kMostTactics = kPlans.size() + 1;

[[noreturn]] void refuse(const std::string& message) { throw std::invalid_argument(message); }

TensorType tensor_type(DataType type) {
  switch (type) {
    case DataType::kFloat16:
      return TensorType::kHALF;
    case DataType::kBFloat16:
      return TensorType::kBF16;
    case DataType::kFloat32:
      break;
  }
  return TensorType::kFLOAT;
}

// The certificate is a bound: it is never rounded to less than float32.
TensorType output_type(const Settings& settings, int32_t output) {
  return output < settings.results() ? tensor_type(settings.output_type) : TensorType::kFLOAT;
}

DataType kernel_type(TensorType type) {
  switch (type) {
    case TensorType::kFLOAT:
      return DataType::kFloat32;
    case TensorType::kHALF:
      return DataType::kFloat16;
    case TensorType::kBF16:
      return DataType::kBFloat16;
    default:
      refuse("embeddings and features must be float32, float16 or bfloat16");
  }
}

// Eight channels a vector, the last one padded: plain channels-last where nothing is left to pad.
bool has_whole_vectors(const Dims& dims) {
  return dims.nbDims == 4 && dims.d[1] > 0 && dims.d[1] % 8 == 0;
}

bool is_map_format(const PluginTensorDesc& tensor) {
  switch (tensor.type) {
    case TensorType::kFLOAT:
      return tensor.format == TensorFormat::kLINEAR || tensor.format == TensorFormat::kHWC;
    case TensorType::kHALF:
    case TensorType::kBF16:
      return tensor.format == TensorFormat::kLINEAR ||
             (tensor.format == TensorFormat::kHWC8 && has_whole_vectors(tensor.dims));
    default:
      return false;
  }
}

void check_count(const char* what, int32_t expected, int32_t found) {
  if (expected != found) {
    refuse("expected " + std::to_string(expected) + " " + what + ", got " + std::to_string(found));
  }
}

void check_rank(const char* name, int32_t expected, int32_t found) {
  if (expected != found) {
    refuse(std::string(name) + " must have " + std::to_string(expected) + " dimensions, got " +
           std::to_string(found));
  }
}

void check_ranks(const Settings& settings, const Dims& embeddings, const Dims& prototypes,
                 const Dims* features) {
  check_rank("embeddings", 4, embeddings.nbDims);
  check_rank("prototypes", 2, prototypes.nbDims);
  if (settings.pooling != Pooling::kGap) check_rank("features", 4, features->nbDims);
}

// TensorRT counts in 64 bits; the kernel's own limits are far below 32.
int32_t size_of(int64_t size) {
  return static_cast<int32_t>(std::min<int64_t>(size, int64_t{1} << 30));
}

// Return the parameters for the given shapes, checked. Throws std::invalid_argument.
PoolingParams params_for(const Settings& settings, const Dims& embeddings, const Dims& prototypes,
                         const Dims* features) {
  check_ranks(settings, embeddings, prototypes, features);
  PoolingParams params = settings.to_params();
  params.batch = size_of(embeddings.d[0]);
  params.embedding_dim = size_of(embeddings.d[1]);
  params.locations = size_of(embeddings.d[2] * embeddings.d[3]);
  params.num_prototypes = size_of(prototypes.d[0]);
  if (prototypes.d[1] != embeddings.d[1]) {
    refuse("prototypes and embeddings must have the same length, got " +
           std::to_string(prototypes.d[1]) + " and " + std::to_string(embeddings.d[1]));
  }
  if (settings.pooling != Pooling::kGap) {
    params.channels = size_of(features->d[1]);
    if (features->d[0] != embeddings.d[0] || features->d[2] != embeddings.d[2] ||
        features->d[3] != embeddings.d[3]) {
      refuse("features and embeddings must have the same batch, height and width");
    }
  }
  const std::string problem = problem_with(params);
  if (!problem.empty()) refuse(problem);
  return params;
}

PoolingParams params_of_largest(const Settings& settings, const DynamicPluginTensorDesc* in) {
  const Dims* const features = settings.pooling == Pooling::kGap ? nullptr : &in[kFeatures].max;
  return params_for(settings, in[kEmbeddings].max, in[kPrototypes].max, features);
}

PoolingParams params_of(const Settings& settings, const PluginTensorDesc* in) {
  const Dims* const features = settings.pooling == Pooling::kGap ? nullptr : &in[kFeatures].dims;
  PoolingParams params =
      params_for(settings, in[kEmbeddings].dims, in[kPrototypes].dims, features);
  params.input_type = kernel_type(in[kEmbeddings].type);
  params.layout = in[kEmbeddings].format == TensorFormat::kLINEAR ? Layout::kChannelsFirst
                                                                  : Layout::kChannelsLast;
  return params;
}

// Return the tactics of this device: the automatic choice, which follows the batch at run time, and
// each plan for itself, which is timed at the best batch and then taken for all. Without a device:
// what all have.
int32_t possible_tactics(std::array<int32_t, kMostTactics>& tactics) {
  Device device;
  if (query_device(&device) != cudaSuccess) device = Device{};
  int32_t count = 0;
  tactics[static_cast<size_t>(count++)] = kAutomatic;
  for (const Plan plan : kPlans) {
    if (!plan_is_possible(plan, device)) continue;
    tactics[static_cast<size_t>(count++)] = static_cast<int32_t>(plan);
  }
  return count;
}

}  // namespace

PoolingPlugin::PoolingPlugin(const Settings& settings)
    : settings_(settings), identity_(settings.to_string()), serialized_(settings) {}

nvinfer1::IPluginCapability* PoolingPlugin::getCapabilityInterface(
    PluginCapabilityType type) noexcept {
  switch (type) {
    case PluginCapabilityType::kCORE:
      return static_cast<nvinfer1::IPluginV3OneCore*>(this);
    case PluginCapabilityType::kBUILD:
      return static_cast<nvinfer1::IPluginV3OneBuild*>(this);
    case PluginCapabilityType::kRUNTIME:
      return static_cast<nvinfer1::IPluginV3OneRuntime*>(this);
  }
  return nullptr;
}

nvinfer1::IPluginV3* PoolingPlugin::clone() noexcept {
  return guarded<nvinfer1::IPluginV3*>(nullptr, [this] {
    auto copy = std::make_unique<PoolingPlugin>(settings_);
    copy->plan_ = plan_;
    return copy.release();
  });
}

const char* PoolingPlugin::getPluginName() const noexcept { return kPluginName; }
const char* PoolingPlugin::getPluginVersion() const noexcept { return kPluginVersion; }
const char* PoolingPlugin::getPluginNamespace() const noexcept { return kPluginNamespace; }

int32_t PoolingPlugin::configurePlugin(const DynamicPluginTensorDesc* in, int32_t inputs,
                                       const DynamicPluginTensorDesc* /*out*/,
                                       int32_t outputs) noexcept {
  return guarded(kFailed, [&] {
    check_count("inputs", settings_.inputs(), inputs);
    check_count("outputs", settings_.outputs(), outputs);
    params_of_largest(settings_, in);
    return kOk;
  });
}

int32_t PoolingPlugin::getOutputDataTypes(TensorType* types, int32_t outputs,
                                          const TensorType* /*input_types*/,
                                          int32_t inputs) const noexcept {
  return guarded(kFailed, [&] {
    check_count("inputs", settings_.inputs(), inputs);
    check_count("outputs", settings_.outputs(), outputs);
    for (int32_t output = 0; output < outputs; ++output) {
      types[output] = output_type(settings_, output);
    }
    return kOk;
  });
}

int32_t PoolingPlugin::getOutputShapes(const nvinfer1::DimsExprs* in, int32_t inputs,
                                       const nvinfer1::DimsExprs* /*shape_inputs*/,
                                       int32_t /*shape_input_count*/, nvinfer1::DimsExprs* out,
                                       int32_t outputs,
                                       nvinfer1::IExprBuilder& /*builder*/) noexcept {
  return guarded(kFailed, [&] {
    check_count("inputs", settings_.inputs(), inputs);
    check_count("outputs", settings_.outputs(), outputs);
    check_rank("embeddings", 4, in[kEmbeddings].nbDims);
    check_rank("prototypes", 2, in[kPrototypes].nbDims);
    const bool pools_embeddings = settings_.pooling == Pooling::kGap;
    if (!pools_embeddings) check_rank("features", 4, in[kFeatures].nbDims);
    const auto& maps = in[kEmbeddings].d;
    const nvinfer1::DimsExprs& pooled = in[pools_embeddings ? kEmbeddings : kFeatures];
    *out++ = {2, {maps[0], pooled.d[1]}};
    if (settings_.output_weights) *out++ = {3, {maps[0], maps[2], maps[3]}};
    if (settings_.output_attributes) *out++ = {2, {maps[0], in[kPrototypes].d[0]}};
    if (settings_.output_residual) *out++ = {1, {maps[0]}};
    if (settings_.output_bound()) *out++ = {1, {maps[0]}};
    return kOk;
  });
}

bool PoolingPlugin::supportsFormatCombination(int32_t position,
                                              const DynamicPluginTensorDesc* tensors,
                                              int32_t inputs, int32_t outputs) noexcept {
  return guarded(false, [&] {
    check_count("inputs", settings_.inputs(), inputs);
    check_count("outputs", settings_.outputs(), outputs);
    const PluginTensorDesc& tensor = tensors[position].desc;
    const PluginTensorDesc& embeddings = tensors[kEmbeddings].desc;
    if (position >= inputs) {
      return tensor.type == output_type(settings_, position - inputs) &&
             tensor.format == TensorFormat::kLINEAR;
    }
    switch (position) {
      case kEmbeddings:
        return is_map_format(tensor);
      case kPrototypes:
        return tensor.type == TensorType::kFLOAT && tensor.format == TensorFormat::kLINEAR;
      default:
        return is_map_format(tensor) && tensor.type == embeddings.type &&
               tensor.format == embeddings.format;
    }
  });
}

int32_t PoolingPlugin::getNbOutputs() const noexcept { return settings_.outputs(); }

size_t PoolingPlugin::getWorkspaceSize(const DynamicPluginTensorDesc* in, int32_t /*inputs*/,
                                       const DynamicPluginTensorDesc* /*out*/,
                                       int32_t /*outputs*/) const noexcept {
  return guarded<size_t>(0, [&] { return workspace_bytes(params_of_largest(settings_, in)); });
}

int32_t PoolingPlugin::getNbTactics() noexcept {
  return guarded(0, [] {
    std::array<int32_t, kMostTactics> tactics;
    return possible_tactics(tactics);
  });
}

int32_t PoolingPlugin::getValidTactics(int32_t* tactics, int32_t count) noexcept {
  return guarded(kFailed, [&] {
    std::array<int32_t, kMostTactics> possible;
    check_count("tactics", possible_tactics(possible), count);
    std::copy_n(possible.begin(), count, tactics);
    return kOk;
  });
}

const char* PoolingPlugin::getTimingCacheID() noexcept { return identity_.c_str(); }
const char* PoolingPlugin::getMetadataString() noexcept { return identity_.c_str(); }

// A plan that a hardware-compatible engine was timed with may be none of this device's: then the
// kernel chooses.
int32_t PoolingPlugin::setTactic(int32_t tactic) noexcept {
  return guarded(kFailed, [&] {
    const bool is_automatic = tactic == 0 || tactic == kAutomatic;
    const Plan plan = is_automatic ? Plan::kAuto : static_cast<Plan>(tactic);
    const bool is_known = is_automatic || std::count(kPlans.begin(), kPlans.end(), plan) == 1;
    if (!is_known) refuse("there is no tactic " + std::to_string(tactic));
    Device device;
    const bool is_possible =
        query_device(&device) == cudaSuccess && plan_is_possible(plan, device);
    plan_ = is_possible ? plan : Plan::kAuto;
    return kOk;
  });
}

int32_t PoolingPlugin::onShapeChange(const PluginTensorDesc* in, int32_t inputs,
                                     const PluginTensorDesc* /*out*/, int32_t outputs) noexcept {
  return guarded(kFailed, [&] {
    check_count("inputs", settings_.inputs(), inputs);
    check_count("outputs", settings_.outputs(), outputs);
    params_of(settings_, in);
    return kOk;
  });
}

int32_t PoolingPlugin::enqueue(const PluginTensorDesc* in, const PluginTensorDesc* /*out*/,
                               const void* const* inputs, void* const* outputs, void* workspace,
                               cudaStream_t stream) noexcept {
  return guarded(kFailed, [&] {
    PoolingTensors tensors;
    tensors.embeddings = inputs[kEmbeddings];
    tensors.prototypes = static_cast<const float*>(inputs[kPrototypes]);
    if (settings_.pooling != Pooling::kGap) tensors.features = inputs[kFeatures];
    tensors.pooled = *outputs++;
    if (settings_.output_weights) tensors.weights = *outputs++;
    if (settings_.output_attributes) tensors.attributes = *outputs++;
    if (settings_.output_residual) tensors.residual = static_cast<float*>(*outputs++);
    if (settings_.output_bound()) tensors.embedding_bound = static_cast<float*>(*outputs++);
    const cudaError_t error =
        launch_pooling(params_of(settings_, in), tensors, workspace, stream, plan_);
    const char* const reason = cudaGetErrorString(error);
    if (error != cudaSuccess) refuse(std::string("the launch failed: ") + reason);
    return kOk;
  });
}

nvinfer1::IPluginV3* PoolingPlugin::attachToContext(
    nvinfer1::IPluginResourceContext* /*context*/) noexcept {
  return clone();
}

const nvinfer1::PluginFieldCollection* PoolingPlugin::getFieldsToSerialize() noexcept {
  return serialized_.fields();
}

}  // namespace gsp_deploy::tensorrt
