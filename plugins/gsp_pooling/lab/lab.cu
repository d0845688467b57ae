// What someone with a GPU runs first: is every version of the kernel right, and then how fast.
//
//   make && build/lab         correctness, then timing; exit 1 when a version is wrong
//   build/lab --correctness   the first half alone
//   build/lab --quick         small sizes and few runs: whether the lab itself works
//   build/lab --json FILE     write what was found as JSON too
//
// Exit 4: there is no device; the CPU reference is checked all the same.
#include "lab.h"

#include <cmath>
#include <cstdio>
#include <cstring>

using namespace gsp_deploy;
using namespace gsp_deploy::lab;

namespace gsp_deploy::lab {

void use(Solver solver, PoolingParams* p) {
  p->solver = solver;
  p->iterations = solver == Solver::kCertified ? 2 : solver == Solver::kNewton ? 20 : 400;
  p->grid_points = solver == Solver::kCertified ? 63 : 0;
}

PoolingParams shape(int batch, int locations, int embedding_dim, int prototypes) {
  PoolingParams p;
  p.batch = batch;
  p.locations = locations;
  p.embedding_dim = embedding_dim;
  p.num_prototypes = prototypes;
  return p;
}

}  // namespace gsp_deploy::lab

namespace {

struct Options {
  bool correctness_only = false;
  bool is_quick = false;
  const char* json = nullptr;
};

bool parse(int count, char** words, Options* options) {
  for (int at = 1; at < count; ++at) {
    if (std::strcmp(words[at], "--correctness") == 0) {
      options->correctness_only = true;
    } else if (std::strcmp(words[at], "--quick") == 0) {
      options->is_quick = true;
    } else if (std::strcmp(words[at], "--json") == 0 && at + 1 < count) {
      options->json = words[++at];
    } else {
      return false;
    }
  }
  return true;
}

// The reference's own laws: weights of mean 1, attributes of sum 1, mu = 1 is the average.
bool reference_is_sound() {
  PoolingParams p = shape(1, 7, 5, 3);
  Inputs inputs;
  for (int at = 0; at < 35; ++at) {
    inputs.embeddings.push_back(std::sin(1.0 + at));
  }
  for (int at = 0; at < 15; ++at) {
    inputs.prototypes.push_back(0.4 * std::cos(2.0 * at));
  }
  const Outputs out = pool_on_cpu(p, inputs);
  double mean = 0, sum = 0, average = 0;
  for (const double weight : out.weights) {
    mean += weight / 7;
  }
  for (const double attribute : out.attributes) {
    sum += attribute;
  }
  p.transport_ratio = 1;
  for (int i = 0; i < 7; ++i) {
    average += inputs.embeddings[i] / 7;
  }
  const double pooled = pool_on_cpu(p, inputs).pooled[0];
  return std::fabs(mean - 1) < 1e-9 && std::fabs(sum - 1) < 1e-9 &&
         std::fabs(pooled - average) < 1e-12;
}

int attribute(cudaDeviceAttr which) {
  int value = 0;
  return cudaDeviceGetAttribute(&value, which, 0) == cudaSuccess ? value : 0;
}

Machine describe(const Device& device, Report* report) {
  cudaDeviceProp properties;
  check(cudaGetDeviceProperties(&properties, 0), "device");
  Machine machine{device};
  // Kilohertz of a clock that moves two words a cycle, and bits of a word.
  const double clock = attribute(cudaDevAttrMemoryClockRate);
  const double width = attribute(cudaDevAttrGlobalMemoryBusWidth);
  machine.gigabytes_a_second = 2 * clock * width / 8 / 1e6;
  machine.l2_bytes = attribute(cudaDevAttrL2CacheSize);
  int driver = 0;
  check(cudaDriverGetVersion(&driver), "driver");
  std::printf("%s, compute capability %d.%d, %d multiprocessors, %.0f GB/s\n", properties.name,
              properties.major, properties.minor, device.multiprocessors,
              machine.gigabytes_a_second);
  report->device.add("name", properties.name).add("compute_capability", device.compute_capability);
  report->device.add("multiprocessors", device.multiprocessors);
  report->device.add("l2_bytes", machine.l2_bytes);
  report->device.add("gigabytes_a_second", machine.gigabytes_a_second).add("driver", driver);
  return machine;
}

}  // namespace

int main(int count, char** words) {
  Options options;
  if (!parse(count, words, &options)) {
    std::fprintf(stderr, "usage: lab [--correctness] [--quick] [--json FILE]\n");
    return 2;
  }
  if (!reference_is_sound()) {
    std::fprintf(stderr, "lab: the CPU reference breaks its own laws\n");
    return 1;
  }
  std::printf("the CPU reference holds its laws\n");
  Device device;
  if (const cudaError_t error = query_device(&device); error != cudaSuccess) {
    std::fprintf(stderr, "lab: no CUDA device (%s): the kernels cannot run here\n",
                 cudaGetErrorString(error));
    return 4;
  }
  Report report;
  const Machine machine = describe(device, &report);
  const bool right = all_are_right(machine, options.is_quick, &report);
  if (right && !options.correctness_only) {
    time_all(machine, options.is_quick, &report);
  }
  if (options.json != nullptr && !report.write(options.json)) {
    std::fprintf(stderr, "lab: %s cannot be written\n", options.json);
    return 1;
  }
  if (!right) {
    std::fprintf(stderr, "lab: a version is wrong; nothing is timed\n");
    return 1;
  }
  return 0;
}
