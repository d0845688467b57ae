// What every runtime offers the Embedder: one batch in the graph's own input type.
#pragma once

#include <cstddef>
#include <cstdint>
#include <gsp/embedder.hpp>
#include <memory>
#include <string>
#include <vector>

#include "bundle.hpp"

namespace gsp {

class InferenceBackend {
 public:
  virtual ~InferenceBackend() = default;

  virtual std::string runtime() const = 0;  // with its version
  virtual std::string device() const = 0;
  // Images of one call to `run`, at least and at most; both the same where the batch is fixed.
  virtual std::size_t min_batch() const = 0;
  virtual std::size_t max_batch() const = 0;

  // Whether the graph has the output `residual`, float32 (count).
  virtual bool has_residual() const = 0;

  // Run `count` images, from host memory in the graph's element type to float32 (count, D), and
  // `residuals` (count) unless that is null. May be called from several threads at once.
  virtual void run(const void* input, std::size_t count, float* out, float* residuals) const = 0;

  // The same with both on the GPU, ordered with a cudaStream_t.
  virtual void run_on_device(const void* input, std::size_t count, float* out, void* stream) const;
};

// Throw Error(missing) when the build has not this backend.
std::unique_ptr<InferenceBackend> open_onnxruntime(const Bundle& bundle, const Artifact& artifact,
                                                   const Options& options);
std::unique_ptr<InferenceBackend> open_openvino(const Bundle& bundle, const Artifact& artifact,
                                                const Options& options);
std::unique_ptr<InferenceBackend> open_tensorrt(const Bundle& bundle, const Artifact& artifact,
                                                const Options& options);

// Bytes of one image at the graph's input.
std::size_t input_bytes(const Bundle& bundle, const Artifact& artifact);

// Sizes of the graph's input for one image.
std::vector<std::int64_t> input_shape(const Bundle& bundle, const Artifact& artifact);

// An output in host memory; its values are float16 if they have 2 bytes, float32 if they have 4.
struct HostOutput {
  const void* data;
  std::size_t count, value_bytes;
};

// Copy an output of `wanted` values to float32. Throw Error(runtime), which names the file, if it
// has another length or type.
void copy_output(const HostOutput& output, std::size_t wanted, const std::string& file, float* out);

}  // namespace gsp
