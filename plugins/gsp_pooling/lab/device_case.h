// One call of the launcher on the device: inputs drawn, rounded and laid out, outputs fetched.
#pragma once

#include <cuda_runtime.h>

#include "reference.h"

namespace gsp_deploy::lab {

// Print and end with 1 when a CUDA call fails: the lab is a program, not the library.
void check(cudaError_t error, const char* what);

// Device memory that lives as long as this.
class Buffer {
 public:
  explicit Buffer(size_t bytes);
  ~Buffer();
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;
  void* data() const { return data_; }
  size_t bytes() const { return bytes_; }

 private:
  void* data_ = nullptr;
  size_t bytes_ = 0;
};

class DeviceCase {
 public:
  // Inputs are drawn from a fixed seed, and rounded to the input type before anything reads them.
  explicit DeviceCase(const PoolingParams& params, bool wants_attributes = true);

  const Inputs& inputs() const { return inputs_; }
  cudaError_t launch(Plan plan, cudaStream_t stream = nullptr) const;
  Outputs fetch() const;

 private:
  PoolingParams params_;
  bool wants_attributes_;
  Inputs inputs_;
  Buffer embeddings_, features_, prototypes_, pooled_, weights_, attributes_, workspace_;
};

}  // namespace gsp_deploy::lab
