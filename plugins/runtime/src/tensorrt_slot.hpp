// One inference at a time: an execution context with its stream, buffers and CUDA graph.
#pragma once

#include <NvInferRuntime.h>

#include <cstddef>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "cuda_memory.hpp"
#include "tensorrt_profiles.hpp"

namespace gsp {

// What every context of an engine shares.
struct EngineShape {
  std::string input_name, output_name;
  nvinfer1::Dims input_dims;  // of one image; the batch is dimension 0
  std::size_t input_bytes;    // of one image
  std::size_t output_bytes;   // of one embedding
  bool has_residual;          // float32, one per image
  // The other outputs, which an engine writes whether they are wanted or not, and their bytes.
  std::vector<std::pair<std::string, std::size_t>> unread;
  std::vector<BatchProfile> profiles;
  std::size_t max_batch;
  bool use_graphs;
};

class TensorRTSlot {
 public:
  TensorRTSlot(nvinfer1::ICudaEngine& engine, const EngineShape& shape);
  ~TensorRTSlot();  // waits for what run_on_device left running
  TensorRTSlot(const TensorRTSlot&) = delete;
  TensorRTSlot& operator=(const TensorRTSlot&) = delete;

  // Host memory to host memory; returns when the result is there.
  void run(const void* input, std::size_t count, void* output, float* residuals);

  // GPU memory to GPU memory, ordered with `stream`; returns at once.
  void run_on_device(const void* input, std::size_t count, void* output, cudaStream_t stream);

 private:
  void infer(std::size_t count);
  void take_batch(ChosenProfile chosen);
  void bind();
  void enqueue();
  CudaGraph capture();

  const EngineShape& shape_;
  const std::size_t room_;  // images that the buffers hold
  CudaStream stream_ = make_stream();
  CudaEvent ready_ = make_event();
  DeviceBuffer device_input_, device_output_, device_residual_;
  PinnedBuffer pinned_input_, pinned_output_, pinned_residual_;
  std::vector<DeviceBuffer> unread_;
  std::unique_ptr<nvinfer1::IExecutionContext> context_;
  int profile_ = 0;           // the context's profile
  std::size_t batch_ = 0;     // and its batch size
  std::size_t runs_ = 0;      // how often it ran with that size
  std::size_t capture_after_ = 0;  // after so many runs a graph is tried
  CudaGraph graph_;           // of that size; null where there is none
};

}  // namespace gsp
