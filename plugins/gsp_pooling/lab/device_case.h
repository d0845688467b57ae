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
  // Misaligned ones begin one element behind an aligned address.
  explicit DeviceCase(const PoolingParams& params, bool wants_attributes = true,
                      bool misaligned = false);

  const Inputs& inputs() const { return inputs_; }
  cudaError_t launch(Plan plan, cudaStream_t stream = nullptr) const;
  // Launch by a graph that was captured before.
  cudaError_t launch_captured(Plan plan) const;
  Outputs fetch() const;

 private:
  PoolingParams params_;
  bool wants_attributes_;
  size_t shift_;  // bytes in front of embeddings and features
  Inputs inputs_;
  Buffer embeddings_, features_, prototypes_, pooled_, weights_, attributes_, workspace_;
};

}  // namespace gsp_deploy::lab
