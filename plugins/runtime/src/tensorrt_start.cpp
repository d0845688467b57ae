#include "tensorrt_start.hpp"

#include <algorithm>
#include <array>
#include <cstdio>
#include <gsp/error.hpp>
#include <string_view>

#include "cuda_memory.hpp"

#ifndef GSP_TENSORRT_KIND  // CMake says which of TensorRT's libraries it found
#define GSP_TENSORRT_KIND ""
#endif

namespace gsp {
namespace {

constexpr std::string_view kind = GSP_TENSORRT_KIND;

std::string library_version() {
  const int version = getInferLibVersion();  // 10.3.0 is 100300; 8.6.1 was 8601
  return std::to_string(version / 10000) + "." + std::to_string(version / 100 % 100) + "." +
         std::to_string(version % 100);
}

std::string cuda_words(int version) {  // 12060 is 12.6
  return std::to_string(version / 1000) + "." + std::to_string(version % 1000 / 10);
}

// TensorRT fails late, and with a crash, where the driver is older than its CUDA.
void check_driver() {
  int driver = 0;
  check_cuda(cudaDriverGetVersion(&driver), "ask for the driver's version");
  if (driver / 1000 >= CUDART_VERSION / 1000) return;
  throw Error(ErrorKind::missing, driver == 0
                                      ? "TensorRT needs NVIDIA's driver, and there is none here"
                                      : "this gsp_runtime is built for CUDA " +
                                            cuda_words(CUDART_VERSION) +
                                            ", and the driver here supports CUDA " +
                                            cuda_words(driver) + "; install a newer driver");
}

#if defined(__aarch64__)
constexpr const char* platform = "linux aarch64";
#else
constexpr const char* platform = "linux x86_64";
#endif

// The first parts of "10.3.0.26", as many as there are, the others 0.
std::array<int, 3> numbers_of(const std::string& text) {
  std::array<int, 3> parts{};
  std::sscanf(text.c_str(), "%d.%d.%d", &parts[0], &parts[1], &parts[2]);
  return parts;
}

// A version-compatible plan contains the lean runtime of its version, which TensorRT and the dispatch
// runtime take from it. Without it inside, the plan needs the lean runtime, or TensorRT of its version.
bool fits_version(const Artifact& artifact, std::array<int, 3> built, std::array<int, 3> here) {
  if (kind.empty() && built == here) return true;
  if (!artifact.version_compatible || (artifact.lean && kind != "lean runtime ")) return false;
  const bool crosses = built[0] == here[0] || (built[0] == 10 && here[0] == 11);
  return built <= here && crosses;
}

bool fits_gpu(const Artifact& artifact, const cudaDeviceProp& gpu, const std::string& capability) {
  const auto& targets = artifact.compute_capabilities;
  if (std::find(targets.begin(), targets.end(), capability) != targets.end()) return true;
  // Hardware-compatible engines do not run on Jetson, whose GPU shares the host's memory.
  return artifact.hardware_compatibility == HardwareCompatibility::ampere_and_later &&
         gpu.major >= 8 && gpu.integrated == 0;
}

}  // namespace

void check_fits(const Artifact& artifact, const cudaDeviceProp& gpu) {
  const auto refuse = [&](const std::string& why) {
    throw Error(ErrorKind::missing,
                artifact.file + ": " + why + "; build the engine on this machine");
  };
  if (artifact.platform != platform)
    refuse("built on " + artifact.platform + ", this is " + platform);
  if (!fits_version(artifact, numbers_of(artifact.tensorrt), numbers_of(library_version())))
    refuse("built by TensorRT " + artifact.tensorrt + ", this is " + tensorrt_name());
  const std::string capability = std::to_string(gpu.major) + "." + std::to_string(gpu.minor);
  if (fits_gpu(artifact, gpu, capability)) return;
  std::string targets;
  for (const auto& target : artifact.compute_capabilities)
    targets += (targets.empty() ? "" : ", ") + target;
  refuse("built for compute capability " + targets + ", this " + gpu.name + " has " + capability);
}

void TensorRTLogger::log(Severity severity, const char* message) noexcept {
  if (severity > Severity::kERROR) return;
  try {
    const std::lock_guard lock(mutex_);
    last_ = message;
    if (first_.empty()) first_ = last_;
  } catch (...) {  // out of memory: the error is reported without its reason
  }
}

std::string TensorRTLogger::first() const {
  const std::lock_guard lock(mutex_);
  return first_.empty() ? "it gives no reason" : first_;
}

std::string TensorRTLogger::last() const {
  const std::lock_guard lock(mutex_);
  return last_.empty() ? "it gives no reason" : last_;
}

bool TensorRTLogger::has_errors() const {
  const std::lock_guard lock(mutex_);
  return !first_.empty();
}

std::string tensorrt_name() {
  return std::string("tensorrt " GSP_TENSORRT_KIND) + library_version();
}

std::unique_ptr<nvinfer1::IRuntime> start_runtime(const std::shared_ptr<TensorRTLogger>& logger) {
  check_driver();
  std::unique_ptr<nvinfer1::IRuntime> made(nvinfer1::createInferRuntime(*logger));
  if (made != nullptr && !logger->has_errors()) return made;
  // Where CUDA does not start, TensorRT logs an error and returns an object all the same. Its use
  // and its release crash: it stays, and its logger with it.
  static_cast<void>(made.release());
  static_cast<void>(new std::shared_ptr<TensorRTLogger>(logger));
  throw Error(ErrorKind::missing, "TensorRT does not start: " + logger->first());
}

}  // namespace gsp
