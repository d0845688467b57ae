// Starting TensorRT, on doubles of TensorRT and CUDA: argv is the driver's version and the error
// that TensorRT logs while it starts, if any. It then returns an object whose release would crash.
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

int main(int argc, char** argv) {
  driver = std::atoi(argv[1]);
  failure = argc > 2 ? argv[2] : "";
  try {
    const auto logger = std::make_shared<gsp::TensorRTLogger>();
    static_cast<void>(gsp::start_runtime(logger).release());
    std::printf("started %s\n", gsp::tensorrt_name().c_str());
  } catch (const gsp::Error& error) {
    std::printf("%d %s\n", static_cast<int>(error.kind()), error.what());
  }
}
