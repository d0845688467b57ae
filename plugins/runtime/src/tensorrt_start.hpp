// Starting TensorRT, and whether an engine fits this TensorRT and this GPU.
#pragma once

#include <NvInferRuntime.h>
#include <cuda_runtime_api.h>

#include <memory>
#include <mutex>
#include <string>

#include "bundle.hpp"

namespace gsp {

// Keeps the errors that say why a call returned nothing.
class TensorRTLogger final : public nvinfer1::ILogger {
 public:
  void log(Severity severity, const char* message) noexcept override;
  std::string first() const;
  std::string last() const;
  bool has_errors() const;

 private:
  mutable std::mutex mutex_;
  std::string first_, last_;
};

// "tensorrt 10.3.0", or "tensorrt lean runtime 10.3.0" (or dispatch) if that is what this library is
// linked to.
std::string tensorrt_name();

// Throw Error(missing) with what to do, where the engine does not run on this machine. TensorRT's
// own message on a foreign engine is of no help.
void check_fits(const Artifact& artifact, const cudaDeviceProp& gpu);

// Start TensorRT. Throws Error(missing) where the driver is too old for it, or it logs an error.
std::unique_ptr<nvinfer1::IRuntime> start_runtime(const std::shared_ptr<TensorRTLogger>& logger);

}  // namespace gsp
