// The host that plays TensorRT: it loads the plugin's library, creates plugins from a node's
// attributes, and stands in for the builder's tensors and sizes.
#pragma once

#include <NvInferRuntime.h>
#include <dlfcn.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

namespace contract {

using namespace nvinfer1;

inline std::string last_message;  // of the plugin's log

class Recorder final : public ILogger {
  void log(Severity, const char* message) noexcept override { last_message = message; }
};

class Finder final : public ILoggerFinder {
  ILogger* findLogger() override { return &recorder_; }
  Recorder recorder_;
};

inline void require(bool holds, const std::string& what) {
  if (holds) return;
  std::printf("FAILED %s (last message: %s)\n", what.c_str(), last_message.c_str());
  std::exit(1);
}

inline void expect(bool holds, const std::string& what) {
  require(holds, what);
  std::printf("ok %s\n", what.c_str());
}

// Stand-ins for TensorRT's expressions of sizes: told apart by their addresses.
class Size final : public IDimensionExpr {};
class Expressions final : public IExprBuilder {};

// The attributes of a node, to be changed before use.
struct Attributes {
  std::string pooling = "gap";
  std::string solver = "newton";
  std::string output_type = "fp32";
  int32_t iterations = 3;
  int32_t grid_points = 0;
  float transport_ratio = 0.3F;
  float entropy_weight = 5.0F;
  float initial_scale = 0.0F;
  float power = 3.0F;
  int32_t normalize = 1;
  int32_t output_weights = 1;
  int32_t output_attributes = 1;
  int32_t output_residual = 0;
  std::vector<PluginField> extra;
  std::string left_out;

  std::vector<PluginField> fields() const {
    std::vector<PluginField> all = extra;
    const auto add = [&](const char* name, const void* data, PluginFieldType type, size_t length) {
      if (left_out != name) all.emplace_back(name, data, type, static_cast<int32_t>(length));
    };
    add("pooling", pooling.data(), PluginFieldType::kCHAR, pooling.size());
    add("solver", solver.c_str(), PluginFieldType::kCHAR, solver.size() + 1);  // both are seen
    add("iterations", &iterations, PluginFieldType::kINT32, 1);
    add("grid_points", &grid_points, PluginFieldType::kINT32, 1);
    add("transport_ratio", &transport_ratio, PluginFieldType::kFLOAT32, 1);
    add("entropy_weight", &entropy_weight, PluginFieldType::kFLOAT32, 1);
    add("initial_scale", &initial_scale, PluginFieldType::kFLOAT32, 1);
    add("power", &power, PluginFieldType::kFLOAT32, 1);
    add("normalize", &normalize, PluginFieldType::kINT32, 1);
    add("output_weights", &output_weights, PluginFieldType::kINT32, 1);
    add("output_attributes", &output_attributes, PluginFieldType::kINT32, 1);
    add("output_residual", &output_residual, PluginFieldType::kINT32, 1);
    add("output_type", output_type.data(), PluginFieldType::kCHAR, output_type.size());
    return all;
  }
};

using Plugin = std::unique_ptr<IPluginV3>;

class Library {
 public:
  Library(const char* path, const char* tensorrt) {
    if (tensorrt != nullptr) register_with(tensorrt, path);
    handle_ = open(path);
    symbol<void(ILoggerFinder*)>("setLoggerFinder")(&finder_);
    if (tensorrt != nullptr) return;
    int32_t count = 0;
    IPluginCreatorInterface* const* creators =
        symbol<IPluginCreatorInterface* const*(int32_t&)>("getCreators")(count);
    expect(count == 1 && creators != nullptr, "one creator");
    expect(std::strcmp(creators[0]->getInterfaceInfo().kind, "PLUGIN CREATOR_V3ONE") == 0,
           "of the third interface");
    creator_ = static_cast<IPluginCreatorV3One*>(creators[0]);
  }

  IPluginCreatorV3One& creator() const { return *creator_; }

  Plugin create(const Attributes& attributes, TensorRTPhase phase = TensorRTPhase::kBUILD) const {
    const std::vector<PluginField> fields = attributes.fields();
    const PluginFieldCollection collection{static_cast<int32_t>(fields.size()), fields.data()};
    return Plugin(creator_->createPlugin("node", &collection, phase));
  }

  template <typename Function>
  Function* symbol(const char* name) const {
    void* const found = dlsym(handle_, name);
    require(found != nullptr, std::string("it exports ") + name);
    return reinterpret_cast<Function*>(found);
  }

 private:
  static void* open(const char* path) {
    void* const found = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (found == nullptr) last_message = dlerror();
    expect(found != nullptr, "the library loads");
    return found;
  }

  // Load the library by TensorRT's own registry, and take the creator that this one finds.
  void register_with(const char* tensorrt, const char* path) {
    handle_ = open(tensorrt);
    auto* const registry =
        static_cast<IPluginRegistry*>(symbol<void*()>("getPluginRegistry")());
    require(registry != nullptr, "TensorRT has a registry");
    expect(registry->loadLibrary(path) != nullptr, "TensorRT's registry loads the library");
    IPluginCreatorInterface* const found =
        registry->getCreator("GeneralizedSumPooling", "1", "gsp.deploy");
    expect(found != nullptr, "and finds its creator");
    creator_ = static_cast<IPluginCreatorV3One*>(found);
  }

  void* handle_ = nullptr;
  Finder finder_;
  IPluginCreatorV3One* creator_ = nullptr;
};

template <typename Capability>
Capability& as(const Plugin& plugin, PluginCapabilityType type) {
  IPluginCapability* const capability = plugin->getCapabilityInterface(type);
  require(capability != nullptr, "the capability is there");
  return *static_cast<Capability*>(capability);
}

inline IPluginV3OneBuild& build_of(const Plugin& plugin) {
  return as<IPluginV3OneBuild>(plugin, PluginCapabilityType::kBUILD);
}

inline IPluginV3OneRuntime& runtime_of(const Plugin& plugin) {
  return as<IPluginV3OneRuntime>(plugin, PluginCapabilityType::kRUNTIME);
}

inline DynamicPluginTensorDesc tensor(DataType type, TensorFormat format, Dims dims) {
  DynamicPluginTensorDesc description{};
  description.desc = {dims, type, format, 1.0F};
  description.min = description.opt = description.max = dims;
  return description;
}

// Inputs and outputs of 2 images, 64 embedding and 32 feature channels, 7 x 5 locations, 8
// prototypes.
inline std::vector<DynamicPluginTensorDesc> tensors(DataType type, TensorFormat format,
                                                    bool features, DataType output,
                                                    int64_t width = 64) {
  const Dims maps{4, {2, width, 7, 5}};
  std::vector<DynamicPluginTensorDesc> all = {
      tensor(type, format, maps),
      tensor(DataType::kFLOAT, TensorFormat::kLINEAR, Dims{2, {8, width}})};
  if (features) all.push_back(tensor(type, format, Dims{4, {2, 32, 7, 5}}));
  const auto result = [&](Dims dims) {
    all.push_back(tensor(output, TensorFormat::kLINEAR, dims));
  };
  result(Dims{2, {2, features ? 32 : width}});
  result(Dims{3, {2, 7, 5}});
  result(Dims{2, {2, 8}});
  return all;
}

// Whether the plugin takes all of a combination, asked position by position as the builder does.
inline bool takes(IPluginV3OneBuild& build, const std::vector<DynamicPluginTensorDesc>& all) {
  const int32_t inputs = static_cast<int32_t>(all.size()) - 3;
  for (int32_t i = 0; i < inputs + 3; ++i) {
    if (!build.supportsFormatCombination(i, all.data(), inputs, 3)) return false;
  }
  return true;
}

}  // namespace contract
