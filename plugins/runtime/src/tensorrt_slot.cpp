#include "tensorrt_slot.hpp"

#include <cstdint>
#include <cstring>

namespace gsp {
namespace {

// TensorRT allocates lazily: its first run of a size cannot be captured.
constexpr std::size_t runs_before_capture = 1;
// A capture that failed is tried again after so many times the runs: another thread may have
// disturbed it.
constexpr std::size_t patience = 10;

void check(bool done, const char* action) {
  if (!done) throw Error(ErrorKind::runtime, std::string("TensorRT cannot ") + action);
}

}  // namespace

TensorRTSlot::TensorRTSlot(nvinfer1::ICudaEngine& engine, const EngineShape& shape)
    : shape_(shape),
      room_(room_for(shape.profiles, shape.max_batch)),
      device_input_(device_buffer(shape.input_bytes * room_)),
      device_output_(device_buffer(shape.output_bytes * room_)),
      device_residual_(device_buffer(sizeof(float) * room_)),
      pinned_input_(pinned_buffer(shape.input_bytes * room_)),
      pinned_output_(pinned_buffer(shape.output_bytes * room_)),
      pinned_residual_(pinned_buffer(sizeof(float) * room_)),
      context_(engine.createExecutionContext()) {
  check(context_ != nullptr, "make an execution context; is there memory left on the GPU?");
  for (const auto& output : shape.unread) unread_.push_back(device_buffer(output.second * room_));
  bind();
}

void TensorRTSlot::bind() {
  const auto set = [this](const std::string& name, const DeviceBuffer& memory) {
    check(context_->setTensorAddress(name.c_str(), memory.get()), "set the memory of a tensor");
  };
  set(shape_.input_name, device_input_);
  set(shape_.output_name, device_output_);
  if (shape_.has_residual) set("residual", device_residual_);
  for (std::size_t i = 0; i < unread_.size(); ++i) set(shape_.unread[i].first, unread_[i]);
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
  const ChosenProfile chosen = choose_profile(shape_.profiles, count);
  if (chosen.batch != batch_ || chosen.index != profile_) take_batch(chosen);
  if (!graph_ && shape_.use_graphs && runs_ >= capture_after_) {
    graph_ = capture();
    capture_after_ = patience * runs_;
  }
  ++runs_;
  if (!graph_) return enqueue();
  check_cuda(cudaGraphLaunch(graph_.get(), stream_.get()), "launch a graph");
}

// A graph is of the context as it was: a context of another shape has none.
void TensorRTSlot::take_batch(ChosenProfile chosen) {
  graph_.reset();
  runs_ = 0;
  capture_after_ = runs_before_capture;
  batch_ = 0;
  if (chosen.index != profile_) {
    check(context_->setOptimizationProfileAsync(chosen.index, stream_.get()), "take this profile");
    profile_ = chosen.index;
    bind();
  }
  nvinfer1::Dims dims = shape_.input_dims;
  dims.d[0] = static_cast<std::int64_t>(chosen.batch);
  check(context_->setInputShape(shape_.input_name.c_str(), dims), "take this batch size");
  batch_ = chosen.batch;
}

void TensorRTSlot::enqueue() { check(context_->enqueueV3(stream_.get()), "run the engine"); }

CudaGraph TensorRTSlot::capture() {
  // An engine that synchronises by itself cannot be captured; it runs without a graph.
  if (cudaStreamBeginCapture(stream_.get(), cudaStreamCaptureModeThreadLocal) != cudaSuccess) {
    static_cast<void>(cudaGetLastError());  // it is dealt with here
    return nullptr;
  }
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
