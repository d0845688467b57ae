// An open model: images in, embeddings out.
//
//   auto embedder = gsp::Embedder::open("bundle");
//   std::vector<float> embeddings;
//   embedder.embed({gsp::decode_image("a.jpg"), gsp::decode_image("b.png")}, embeddings);
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <gsp/api.hpp>
#include <gsp/error.hpp>
#include <gsp/image.hpp>
#include <memory>
#include <string>
#include <vector>

namespace gsp {

enum class Backend {
  automatic,    // the bundle's first artifact
  onnxruntime,  // its ONNX model
  openvino,     // its ONNX model too, on a CPU
  tensorrt,     // its engine
};

struct Options {
  Backend backend = Backend::automatic;
  // Where the first artifact does not fit this machine, take the bundle's next one.
  bool allow_fallback = false;
  // Compare every file's hash with SHA256SUMS before anything is loaded.
  bool verify_hashes = true;
  // ONNX Runtime's library. Empty: what the environment variable GSP_ONNXRUNTIME_LIBRARY names, or
  // else libonnxruntime.so.1 or libonnxruntime.so, where the system's loader finds it.
  std::filesystem::path onnxruntime_library;
  // OpenVINO's C library. Empty: what the environment variable GSP_OPENVINO_LIBRARY names, or else
  // libopenvino_c.so, where the system's loader finds it.
  std::filesystem::path openvino_library;
  // Threads of one inference on a CPU; 0 leaves it to the runtime.
  int threads = 0;
  // OpenVINO: inferences that run at once, which share the threads; others wait.
  int requests = 1;
  // Images that go through the network at once; more are chunked.
  std::size_t max_batch = 64;
  // TensorRT: which GPU, how many inferences may run at once, CUDA graphs, plugin libraries
  // beside the bundle's own.
  int device = 0;
  int contexts = 2;
  bool cuda_graphs = true;
  std::vector<std::filesystem::path> plugin_libraries;
  // Load version-compatible engines, which carry code for the host: only from whom you trust.
  bool allow_host_code = false;
};

struct Info {
  std::string model;      // the backbone's name
  std::string artifact;   // file within the bundle
  std::string runtime;    // "onnxruntime 1.32.0", "openvino 2026.4.1", "tensorrt 10.3.0"
  std::string device;     // "cpu", "CPU, computes in bfloat16", "cuda:0 NVIDIA ..."
  std::string precision;  // fp32, fp16, bf16, int8
  std::size_t embedding_dim = 0;
  bool takes_pixels = false;  // the graph normalises by itself
  bool has_residual = false;  // the model was exported with --also residual
  std::string fallback;       // why the first artifact was left out; empty if it was not
  Preprocessing preprocessing;
  double allowed_cosine_distance = 0;  // to the golden embeddings
};

// Move-only. Every const member function may be called from several threads at once; a moved-from
// Embedder may only be destroyed or assigned to. No global state: two Embedders do not share any.
class GSP_API Embedder {
 public:
  // Open a bundle that `gsp-deploy package` wrote.
  // Throws Error: bundle (damaged), missing (no such backend, device or version), runtime.
  static Embedder open(const std::filesystem::path& bundle, const Options& options = {});

  Embedder(Embedder&&) noexcept;
  Embedder& operator=(Embedder&&) noexcept;
  Embedder(const Embedder&) = delete;
  Embedder& operator=(const Embedder&) = delete;
  ~Embedder();

  const Info& info() const noexcept;

  // Embed images of any size. `out` becomes images.size() * embedding_dim values, row by row; it
  // is left as it was when an error is thrown. Throws Error: usage, runtime.
  void embed(const std::vector<Image>& images, std::vector<float>& out) const;

  // Embed `count` images of the model's size: pixels is uint8 (count, height, width, 3),
  // out has room for count * embedding_dim values.
  void embed_pixels(const std::uint8_t* pixels, std::size_t count, float* out) const;

  // The same with each image's residual, the mean absolute error of its mixing weights: one value
  // per image, NaN where the image's own answer is. Throws Error(usage) when the model has none.
  void embed(const std::vector<Image>& images, std::vector<float>& out,
             std::vector<float>& residuals) const;
  void embed_pixels(const std::uint8_t* pixels, std::size_t count, float* out,
                    float* residuals) const;

  // Embed inputs that were normalised already: float32 (count, 3, height, width).
  // Throws Error(usage) when the graph takes pixels, or a value is NaN or infinite.
  void embed_normalised(const float* inputs, std::size_t count, float* out) const;

  // TensorRT only: input and output lie on the GPU, in the graph's own element type and layout
  // and in float32. Work is ordered with `cuda_stream` (a cudaStream_t); nothing waits on the host,
  // only the destructor for what still runs.
  // Throws Error(missing) on a backend without a GPU.
  void embed_device(const void* input, std::size_t count, float* out, void* cuda_stream) const;

 private:
  struct State;
  explicit Embedder(std::unique_ptr<State> state) noexcept;
  std::unique_ptr<State> state_;
};

}  // namespace gsp
