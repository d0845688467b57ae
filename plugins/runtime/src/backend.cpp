#include "backend.hpp"

#include <algorithm>

#include "half.hpp"

namespace gsp {
namespace {

[[noreturn, maybe_unused]] void not_built(const Artifact& artifact, const char* name) {
  throw Error(ErrorKind::missing, artifact.file + " needs " + name +
                                      ", which this build of gsp_runtime has not; build it where " +
                                      name + " is installed");
}

}  // namespace

void InferenceBackend::run_on_device(const void*, std::size_t, float*, void*) const {
  throw Error(ErrorKind::missing, "embed_device needs the TensorRT backend, this is " + runtime());
}

std::size_t input_bytes(const Bundle& bundle, const Artifact& artifact) {
  const std::size_t size = artifact.input_type == ElementType::uint8     ? 1
                           : artifact.input_type == ElementType::float16 ? 2
                                                                         : 4;
  return size * 3 * static_cast<std::size_t>(bundle.preprocessing.height) *
         static_cast<std::size_t>(bundle.preprocessing.width);
}

std::vector<std::int64_t> input_shape(const Bundle& bundle, const Artifact& artifact) {
  const auto height = bundle.preprocessing.height, width = bundle.preprocessing.width;
  if (artifact.input_type == ElementType::uint8) return {1, height, width, 3};
  return {1, 3, height, width};
}

void copy_output(const HostOutput& output, std::size_t wanted, const std::string& file,
                 float* out) {
  if (output.count != wanted)
    throw Error(ErrorKind::runtime, file + ": an output is not of the length that bundle.json says");
  if (output.value_bytes == sizeof(float)) {
    std::copy_n(static_cast<const float*>(output.data), wanted, out);
  } else if (output.value_bytes == sizeof(std::uint16_t)) {
    const auto* halves = static_cast<const std::uint16_t*>(output.data);
    std::transform(halves, halves + wanted, out, from_half);
  } else {
    throw Error(ErrorKind::runtime, file + ": expected outputs of float32 or float16");
  }
}

#ifndef GSP_WITH_ONNXRUNTIME
std::unique_ptr<InferenceBackend> open_onnxruntime(const Bundle&, const Artifact& artifact,
                                                   const Options&) {
  not_built(artifact, "ONNX Runtime");
}
#endif

#ifndef GSP_WITH_TENSORRT
std::unique_ptr<InferenceBackend> open_tensorrt(const Bundle&, const Artifact& artifact,
                                                const Options&) {
  not_built(artifact, "TensorRT");
}
#endif

}  // namespace gsp
