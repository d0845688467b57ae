#include "tensorrt_slot.hpp"

#include <cstdint>
#include <cstring>

namespace gsp {
namespace {

void check(bool done, const char* action) {
  if (!done) throw Error(ErrorKind::runtime, std::string("TensorRT cannot ") + action);
}

}  // namespace

TensorRTSlot::TensorRTSlot(nvinfer1::ICudaEngine& engine, const EngineShape& shape)
    : shape_(shape),
      device_input_(device_buffer(shape.input_bytes * shape.max_batch)),
      device_output_(device_buffer(shape.output_bytes * shape.max_batch)),
      device_residual_(device_buffer(sizeof(float) * shape.max_batch)),
      pinned_input_(pinned_buffer(shape.input_bytes * shape.max_batch)),
      pinned_output_(pinned_buffer(shape.output_bytes * shape.max_batch)),
      pinned_residual_(pinned_buffer(sizeof(float) * shape.max_batch)),
      context_(engine.createExecutionContext()) {
  check(context_ != nullptr, "make an execution context; is there memory left on the GPU?");
  check(context_->setTensorAddress(shape.input_name.c_str(), device_input_.get()), "set the input");
  check(context_->setTensorAddress(shape.output_name.c_str(), device_output_.get()),
        "set the output");
  if (shape.has_residual)
    check(context_->setTensorAddress("residual", device_residual_.get()), "set the residual");
  for (const auto& [name, bytes] : shape.unread) {
    unread_.push_back(device_buffer(bytes * shape.max_batch));
    check(context_->setTensorAddress(name.c_str(), unread_.back().get()), "set an output");
  }
}

TensorRTSlot::~TensorRTSlot() { static_cast<void>(cudaStreamSynchronize(stream_.get())); }

void TensorRTSlot::run(const void* input, std::size_t count, void* output, float* residuals) {
  const std::size_t in = count * shape_.input_bytes, out = count * shape_.output_bytes;
  std::memcpy(pinned_input_.get(), input, in);
  check_cuda(cudaMemcpyAsync(device_input_.get(), pinned_input_.get(), in, cudaMemcpyHostToDevice,
                             stream_.get()),
             "copy to the GPU");
  infer(count);
  check_cuda(cudaMemcpyAsync(pinned_output_.get(), device_output_.get(), out,
                             cudaMemcpyDeviceToHost, stream_.get()),
             "copy from the GPU");
  if (residuals != nullptr)
    check_cuda(cudaMemcpyAsync(pinned_residual_.get(), device_residual_.get(),
                               count * sizeof(float), cudaMemcpyDeviceToHost, stream_.get()),
               "copy from the GPU");
  check_cuda(cudaStreamSynchronize(stream_.get()), "finish an inference");
  std::memcpy(output, pinned_output_.get(), out);
  if (residuals != nullptr)
    std::memcpy(residuals, pinned_residual_.get(), count * sizeof(float));
}

void TensorRTSlot::run_on_device(const void* input, std::size_t count, void* output,
                                 cudaStream_t stream) {
  // A graph has its addresses fixed, so the caller's data passes through this slot's own buffers.
  // All of it is on the slot's stream: the next user of the slot comes after it by itself.
  check_cuda(cudaEventRecord(ready_.get(), stream), "record an event");
  check_cuda(cudaStreamWaitEvent(stream_.get(), ready_.get(), 0), "wait for the caller's stream");
  check_cuda(cudaMemcpyAsync(device_input_.get(), input, count * shape_.input_bytes,
                             cudaMemcpyDeviceToDevice, stream_.get()),
             "copy on the GPU");
  infer(count);
  check_cuda(cudaMemcpyAsync(output, device_output_.get(), count * shape_.output_bytes,
                             cudaMemcpyDeviceToDevice, stream_.get()),
             "copy on the GPU");
  check_cuda(cudaEventRecord(ready_.get(), stream_.get()), "record an event");
  check_cuda(cudaStreamWaitEvent(stream, ready_.get(), 0), "make the caller's stream wait");
}

void TensorRTSlot::infer(std::size_t count) {
  if (count != batch_) {
    take_batch(count);
    enqueue();  // outside a capture first: TensorRT allocates lazily
    may_capture_ = shape_.use_graphs;
    return;
  }
  if (may_capture_) {
    may_capture_ = false;
    graph_ = capture();
  }
  if (!graph_) return enqueue();
  check_cuda(cudaGraphLaunch(graph_.get(), stream_.get()), "launch a graph");
}

// A graph is of the context as it was: a context of another shape has none.
void TensorRTSlot::take_batch(std::size_t count) {
  graph_.reset();
  may_capture_ = false;
  batch_ = 0;
  nvinfer1::Dims dims = shape_.input_dims;
  dims.d[0] = static_cast<std::int64_t>(count);
  check(context_->setInputShape(shape_.input_name.c_str(), dims), "take this batch size");
  batch_ = count;
}

void TensorRTSlot::enqueue() { check(context_->enqueueV3(stream_.get()), "run the engine"); }

CudaGraph TensorRTSlot::capture() {
  // An engine that synchronises by itself cannot be captured; it then runs without a graph.
  if (cudaStreamBeginCapture(stream_.get(), cudaStreamCaptureModeThreadLocal) != cudaSuccess)
    return nullptr;
  bool whole = true;
  try {
    enqueue();
  } catch (const Error&) {
    whole = false;
  }
  cudaGraph_t graph = nullptr;
  whole = cudaStreamEndCapture(stream_.get(), &graph) == cudaSuccess && whole && graph != nullptr;
  cudaGraphExec_t made = nullptr;
  if (whole) whole = cudaGraphInstantiateWithFlags(&made, graph, 0) == cudaSuccess;
  if (graph != nullptr) cudaGraphDestroy(graph);
  if (!whole) static_cast<void>(cudaGetLastError());  // it is dealt with here
  return CudaGraph(whole ? made : nullptr);
}

}  // namespace gsp
