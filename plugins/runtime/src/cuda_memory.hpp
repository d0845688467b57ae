// CUDA's handles with the lifetime of an object.
#pragma once

#include <cuda_runtime_api.h>
#include <dlfcn.h>

#include <cstddef>
#include <gsp/error.hpp>
#include <memory>
#include <string>

namespace gsp {

inline void check_cuda(cudaError_t status, const char* action) {
  if (status == cudaSuccess) return;
  const bool missing = status == cudaErrorNoDevice || status == cudaErrorInsufficientDriver ||
                       status == cudaErrorInvalidDevice;
  throw Error(missing ? ErrorKind::missing : ErrorKind::runtime,
              std::string("CUDA cannot ") + action + ": " + cudaGetErrorString(status));
}

// Whether this process has a primary context on a GPU. The driver's library is loaded already.
inline bool has_context(int device) {
  using State = int(int, unsigned int*, int*);
  void* const library = dlopen("libcuda.so.1", RTLD_LAZY | RTLD_NOLOAD);
  if (library == nullptr) return false;
  void* const found = dlsym(library, "cuDevicePrimaryCtxGetState");
  unsigned int flags = 0;
  int active = 0;
  const bool is_known =
      found != nullptr && reinterpret_cast<State*>(found)(device, &flags, &active) == 0;
  dlclose(library);
  return is_known && active != 0;
}

// The GPU that the calling thread works on, for as long as this lives; then its own again, but only
// if a context exists there: setting a GPU makes one, which takes hundreds of megabytes.
class CurrentDevice {
 public:
  explicit CurrentDevice(int device) : device_(device) {
    check_cuda(cudaGetDevice(&before_), "say which GPU is current");
    if (before_ != device_) check_cuda(cudaSetDevice(device_), "use this GPU");
  }
  ~CurrentDevice() {
    if (before_ != device_ && has_context(before_)) static_cast<void>(cudaSetDevice(before_));
  }
  CurrentDevice(const CurrentDevice&) = delete;
  CurrentDevice& operator=(const CurrentDevice&) = delete;

 private:
  int device_;
  int before_ = 0;
};

struct CudaDelete {
  void operator()(cudaStream_t stream) const { cudaStreamDestroy(stream); }
  void operator()(cudaEvent_t event) const { cudaEventDestroy(event); }
  void operator()(cudaGraphExec_t graph) const { cudaGraphExecDestroy(graph); }
};

template <typename Handle>
using CudaOwned = std::unique_ptr<std::remove_pointer_t<Handle>, CudaDelete>;

using CudaStream = CudaOwned<cudaStream_t>;
using CudaEvent = CudaOwned<cudaEvent_t>;
using CudaGraph = CudaOwned<cudaGraphExec_t>;

inline CudaStream make_stream() {
  cudaStream_t made = nullptr;
  check_cuda(cudaStreamCreateWithFlags(&made, cudaStreamNonBlocking), "make a stream");
  return CudaStream(made);
}

inline CudaEvent make_event() {
  cudaEvent_t made = nullptr;
  check_cuda(cudaEventCreateWithFlags(&made, cudaEventDisableTiming), "make an event");
  return CudaEvent(made);
}

struct DeviceFree {
  void operator()(void* memory) const { cudaFree(memory); }
};
struct PinnedFree {
  void operator()(void* memory) const { cudaFreeHost(memory); }
};
using DeviceBuffer = std::unique_ptr<void, DeviceFree>;
using PinnedBuffer = std::unique_ptr<void, PinnedFree>;

inline DeviceBuffer device_buffer(std::size_t bytes) {
  void* made = nullptr;
  check_cuda(cudaMalloc(&made, bytes), "allocate memory on the GPU");
  return DeviceBuffer(made);
}

inline PinnedBuffer pinned_buffer(std::size_t bytes) {
  void* made = nullptr;
  check_cuda(cudaHostAlloc(&made, bytes, cudaHostAllocDefault), "allocate pinned memory");
  return PinnedBuffer(made);
}

}  // namespace gsp
