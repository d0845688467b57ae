// The part of the CUDA runtime's host API that the pooling's launcher uses.
#pragma once

#include <cstddef>
#include <cstdlib>
#include <functional>
#include <vector>

#include "emulator.h"

enum cudaError_t { cudaSuccess = 0, cudaErrorInvalidValue = 1, cudaErrorMemoryAllocation = 2,
                   cudaErrorNotSupported = 801 };
using cudaStream_t = void*;

namespace emulation {
// What was launched on a stream while it was captured; nothing runs meanwhile.
using Graph = std::vector<std::function<void()>>;
struct Capture {
  cudaStream_t stream = nullptr;
  Graph* graph = nullptr;
};
inline Capture captured;
}  // namespace emulation

enum cudaDeviceAttr {
  cudaDevAttrMultiProcessorCount = 16,
  cudaDevAttrMemoryClockRate = 36,
  cudaDevAttrGlobalMemoryBusWidth = 37,
  cudaDevAttrL2CacheSize = 38,
  cudaDevAttrComputeCapabilityMajor = 75,
  cudaDevAttrComputeCapabilityMinor = 76,
};

inline cudaError_t cudaGetDevice(int* device) {
  *device = 0;
  return cudaSuccess;
}

// The device that the environment describes; without a word an H100.
inline cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int) {
  const char* capability = std::getenv("EMULATION_CAPABILITY");
  const int number = capability != nullptr ? std::atoi(capability) : 90;
  *value = attribute == cudaDevAttrMultiProcessorCount      ? 132
           : attribute == cudaDevAttrMemoryClockRate        ? 1000000
           : attribute == cudaDevAttrGlobalMemoryBusWidth   ? 256
           : attribute == cudaDevAttrL2CacheSize            ? 1 << 20
           : attribute == cudaDevAttrComputeCapabilityMajor ? number / 10
                                                            : number % 10;
  return cudaSuccess;
}

#include "emulated_host.h"
