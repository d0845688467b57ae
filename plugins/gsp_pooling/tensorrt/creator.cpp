// What the shared object exports: the creator for TensorRT's registry, and its own versions.
#include <NvInferRuntime.h>

#include <stdexcept>
#include <string>

#include "log.h"
#include "plugin.h"

#define GSP_EXPORT extern "C" __attribute__((visibility("default")))

namespace gsp_deploy::tensorrt {
namespace {

class PoolingCreator final : public nvinfer1::IPluginCreatorV3One {
 public:
  nvinfer1::IPluginV3* createPlugin(const char* name,
                                    const nvinfer1::PluginFieldCollection* fields,
                                    nvinfer1::TensorRTPhase phase) noexcept override {
    return guarded<nvinfer1::IPluginV3*>(nullptr, [&]() -> nvinfer1::IPluginV3* {
      if (fields == nullptr || (fields->nbFields > 0 && fields->fields == nullptr)) {
        throw std::invalid_argument("expected attributes, got none");
      }
      try {
        return new PoolingPlugin(read_settings(*fields, phase));
      } catch (const std::invalid_argument& error) {
        const std::string node = name == nullptr || *name == '\0' ? "" : std::string(name) + ": ";
        throw std::invalid_argument(node + error.what());
      }
    });
  }

  const nvinfer1::PluginFieldCollection* getFieldNames() noexcept override {
    return &attribute_names();
  }

  const char* getPluginName() const noexcept override { return kPluginName; }
  const char* getPluginVersion() const noexcept override { return kPluginVersion; }
  const char* getPluginNamespace() const noexcept override { return kPluginNamespace; }
};

}  // namespace
}  // namespace gsp_deploy::tensorrt

GSP_EXPORT nvinfer1::IPluginCreatorInterface* const* getCreators(int32_t& count) {
  static gsp_deploy::tensorrt::PoolingCreator creator;
  static nvinfer1::IPluginCreatorInterface* const creators[] = {&creator};
  count = 1;
  return creators;
}

GSP_EXPORT void setLoggerFinder(nvinfer1::ILoggerFinder* finder) {
  gsp_deploy::tensorrt::set_logger_finder(finder);
}

// Version of what a plan holds of the plugin; plans of another are refused.
GSP_EXPORT int32_t gsp_plugin_abi() { return gsp_deploy::tensorrt::kSerializationVersion; }

// Version of gsp-deploy that the library was built from.
GSP_EXPORT const char* gsp_plugin_version() { return GSP_DEPLOY_VERSION; }

// Version of TensorRT whose headers it was built with, as 100300 for 10.3.0.
GSP_EXPORT int32_t gsp_plugin_tensorrt() {
  return NV_TENSORRT_MAJOR * 10000 + NV_TENSORRT_MINOR * 100 + NV_TENSORRT_PATCH;
}
