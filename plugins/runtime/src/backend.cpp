#include "backend.hpp"

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
