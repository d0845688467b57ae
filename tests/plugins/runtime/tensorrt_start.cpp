// Starting TensorRT, on doubles of TensorRT and CUDA: argv is the driver's version and the error
// that TensorRT logs while it starts, if any. It then returns an object whose release would crash. Or
// argv is "fits", the version that built a plan, and whether the plan is "plain", "compatible" or "lean".
#include <cstdio>
#include <cstdlib>
#include <string>

#include "gsp/error.hpp"
#include "tensorrt_start.hpp"

namespace {
int driver = 0;
std::string failure;
}  // namespace

extern "C" {
cudaError_t cudaDriverGetVersion(int* version) {
  *version = driver;
  return cudaSuccess;
}
const char* cudaGetErrorString(cudaError_t) { return "an error"; }
std::int32_t getInferLibVersion() noexcept { return 110400; }
void* createInferRuntime_INTERNAL(void* logger, std::int32_t) noexcept {
  if (!failure.empty())
    static_cast<nvinfer1::ILogger*>(logger)->log(nvinfer1::ILogger::Severity::kERROR,
                                                 failure.c_str());
  return reinterpret_cast<void*>(0x10);
}
}

void fits(const std::string& built, const std::string& plan) {
  gsp::Artifact artifact{};
  artifact.file = "a.engine";
  artifact.tensorrt = built;
  artifact.platform = "linux x86_64";
#if defined(__aarch64__)
  artifact.platform = "linux aarch64";
#endif
  artifact.compute_capabilities = {"8.6"};
  artifact.version_compatible = plan != "plain";
  artifact.lean = plan == "lean";
  cudaDeviceProp gpu{};
  gpu.major = 8;
  gpu.minor = 6;
  gsp::check_fits(artifact, gpu);
  std::printf("fits\n");
}

int main(int argc, char** argv) {
  driver = std::atoi(argv[1]);
  failure = argc > 2 ? argv[2] : "";
  try {
    if (std::string(argv[1]) == "fits") {
      fits(argv[2], argv[3]);
      return 0;
    }
    const auto logger = std::make_shared<gsp::TensorRTLogger>();
    static_cast<void>(gsp::start_runtime(logger).release());
    std::printf("started %s\n", gsp::tensorrt_name().c_str());
  } catch (const gsp::Error& error) {
    std::printf("%d %s\n", static_cast<int>(error.kind()), error.what());
  }
}
