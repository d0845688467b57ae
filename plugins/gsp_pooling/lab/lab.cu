// What someone with a GPU runs first: is every version of the kernel right, and then how fast.
//
//   make && build/lab       correctness, then timing; exit 1 when a version is wrong
//   build/lab --correctness the first half alone
//
// Exit 4: there is no device; the CPU reference is checked all the same.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <vector>

#include "device_case.h"

using namespace gsp_deploy;
using namespace gsp_deploy::lab;

namespace {

constexpr int kRuns = 200;
constexpr Plan kPlans[] = {Plan::kBlock, Plan::kCluster, Plan::kSplit};
constexpr DataType kTypes[] = {DataType::kFloat32, DataType::kFloat16, DataType::kBFloat16};
constexpr Solver kSolvers[] = {Solver::kNewton, Solver::kCertified};
constexpr Layout kLayouts[] = {Layout::kChannelsFirst, Layout::kChannelsLast};

const char* name(Plan plan) {
  const char* names[] = {"auto", "block", "cluster", "split"};
  return names[static_cast<int>(plan)];
}
const char* name(DataType type) {
  const char* names[] = {"float32", "float16", "bfloat16"};
  return names[static_cast<int>(type)];
}
const char* name(Layout layout) { return layout == Layout::kChannelsFirst ? "first" : "last"; }
const char* name(Solver solver) {
  const char* names[] = {"fixed", "newton", "certified"};
  return names[static_cast<int>(solver)];
}
const char* name(Pooling pooling) {
  const char* names[] = {"gap", "gmp", "gem"};
  return names[static_cast<int>(pooling)];
}

// Set the solver, with steps (and points) enough for the lab's gamma of 5.
void use(Solver solver, PoolingParams* p) {
  p->solver = solver;
  p->iterations = solver == Solver::kCertified ? 2 : 20;
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

// The largest error, relative to the largest expected value.
double error_of(const std::vector<double>& found, const std::vector<double>& expected) {
  double error = 0, size = 1e-30;
  for (size_t at = 0; at < expected.size(); ++at) {
    const double difference = std::fabs(found[at] - expected[at]);
    error = std::isfinite(found[at]) ? std::max(error, difference) : HUGE_VAL;
    size = std::max(size, std::fabs(expected[at]));
  }
  return error / size;
}

// Compare one plan with the reference, and with itself run again.
bool is_right(const PoolingParams& p, const DeviceCase& device_case, const Outputs& expected,
              Plan plan) {
  const double tolerance = p.input_type == DataType::kBFloat16 ? 2e-4 : 5e-5;
  const bool solves = p.transport_ratio < 1;  // else there are no attributes
  check(device_case.launch(plan), "launch");
  const Outputs found = device_case.fetch();
  check(device_case.launch(plan), "launch");
  const Outputs again = device_case.fetch();
  const double errors[] = {error_of(found.pooled, expected.pooled),
                           error_of(found.weights, expected.weights),
                           solves ? error_of(found.attributes, expected.attributes) : 0};
  const bool close = *std::max_element(errors, errors + 3) <= tolerance;
  const bool same = found.pooled == again.pooled && found.weights == again.weights &&
                    (!solves || found.attributes == again.attributes);
  std::printf("%-8s %-9s %-9s %-6s %-4s %4.1f %5d %5d %5d  %8.1e %8.1e %8.1e  %s%s\n", name(plan),
              name(p.solver), name(p.input_type), name(p.layout), name(p.pooling),
              static_cast<double>(p.transport_ratio), p.locations, p.embedding_dim,
              p.num_prototypes, errors[0], errors[1], errors[2], close ? "right" : "WRONG",
              same ? "" : ", NOT THE SAME TWICE");
  return close && same;
}

// Every type, layout and pooling at odd and whole sizes; at mu = 1 nothing is solved.
std::vector<PoolingParams> correctness_cases() {
  std::vector<PoolingParams> cases;
  const int sizes[][3] = {{1, 8, 1}, {33, 13, 3}, {49, 512, 64}, {50, 70, 129}, {784, 128, 64}};
  for (const auto& size : sizes) {
    PoolingParams p = shape(3, size[0], size[1], size[2]);
    for (const DataType type : kTypes) {
      for (const Layout layout : kLayouts) {
        for (const Pooling pooling : {Pooling::kGap, Pooling::kGmp, Pooling::kGem}) {
          for (const float ratio : {0.3F, 1.0F}) {
            p.input_type = type;
            p.layout = layout;
            p.pooling = pooling;
            p.transport_ratio = ratio;
            p.normalize = pooling == Pooling::kGap;
            p.channels = pooling == Pooling::kGap ? 0 : 100;
            for (const Solver solver : kSolvers) {
              use(solver, &p);
              cases.push_back(p);
            }
          }
        }
      }
    }
  }
  return cases;
}

bool all_are_right(const Device& device) {
  std::printf("%-8s %-9s %-9s %-6s %-4s %4s %5s %5s %5s  %8s %8s %8s\n", "plan", "solver", "type",
              "layout", "pool", "mu", "N", "D", "M", "pooled", "weights", "attrib.");
  bool right = true;
  for (const PoolingParams& p : correctness_cases()) {
    const DeviceCase device_case(p, p.transport_ratio < 1);  // attributes would have it solved
    const Outputs expected = pool_on_cpu(p, device_case.inputs());
    for (const Plan plan : kPlans) {
      if (plan_is_possible(plan, device)) {
        right = is_right(p, device_case, expected, plan) && right;
      }
    }
  }
  return right;
}

// Sorted microseconds of single runs, each after everything was thrown out of the L2 cache.
std::vector<float> times_of(const DeviceCase& device_case, Plan plan, const Buffer& flood) {
  cudaEvent_t start, stop;
  check(cudaEventCreate(&start), "event");
  check(cudaEventCreate(&stop), "event");
  std::vector<float> times;
  for (int run = 0; run < kRuns; ++run) {
    check(cudaMemsetAsync(flood.data(), run & 0xff, flood.bytes()), "flood");
    check(cudaEventRecord(start), "event");
    check(device_case.launch(plan), "launch");
    check(cudaEventRecord(stop), "event");
    check(cudaEventSynchronize(stop), "run");
    float milliseconds = 0;
    check(cudaEventElapsedTime(&milliseconds, start, stop), "event");
    times.push_back(1000 * milliseconds);
  }
  cudaEventDestroy(start);
  cudaEventDestroy(stop);
  std::sort(times.begin(), times.end());
  return times;
}

void time_plans(PoolingParams p, const Device& device, const Buffer& flood) {
  const DeviceCase whole(p, false);
  p.transport_ratio = 1;  // the average: what reading the embeddings and a launch cost
  const DeviceCase average(p, false);
  for (const Plan plan : kPlans) {
    if (plan_is_possible(plan, device)) {
      const std::vector<float> times = times_of(whole, plan, flood);
      const std::vector<float> least = times_of(average, plan, flood);
      std::printf("%-8s %-9s %-9s %-6s %5d %5d %5d %5d  %8.2f %8.2f %8.2f\n", name(plan),
                  name(p.solver), name(p.input_type), name(p.layout), p.batch, p.locations,
                  p.embedding_dim, p.num_prototypes, times[kRuns / 2], times[kRuns * 9 / 10],
                  least[kRuns / 2]);
    }
  }
}

void time_all(const Device& device) {
  int l2_bytes = 0;
  check(cudaDeviceGetAttribute(&l2_bytes, cudaDevAttrL2CacheSize, 0), "device");
  const Buffer flood(2 * static_cast<size_t>(std::max(l2_bytes, 1 << 20)));
  std::printf("\nmicroseconds of %d single runs, L2 flushed before each, events around the "
              "launch\n", kRuns);
  std::printf("%-8s %-9s %-9s %-6s %5s %5s %5s %5s  %8s %8s %8s\n", "plan", "solver", "type",
              "layout", "batch", "N", "D", "M", "p50", "p90", "mu = 1");
  const int sizes[][4] = {{1, 49, 512, 64}, {8, 49, 512, 64}, {64, 49, 512, 64},
                          {1, 196, 512, 128}, {1, 784, 2048, 128}};
  for (const auto& size : sizes) {
    for (const DataType type : kTypes) {
      for (const Layout layout : kLayouts) {
        for (const Solver solver : kSolvers) {
          PoolingParams p = shape(size[0], size[1], size[2], size[3]);
          p.input_type = type;
          p.layout = layout;
          p.normalize = true;
          use(solver, &p);
          time_plans(p, device, flood);
        }
      }
    }
  }
}

}  // namespace

int main(int count, char** words) {
  const bool correctness_only = count == 2 && std::strcmp(words[1], "--correctness") == 0;
  if (count > 1 && !correctness_only) {
    std::fprintf(stderr, "usage: lab [--correctness]\n");
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
  cudaDeviceProp properties;
  check(cudaGetDeviceProperties(&properties, 0), "device");
  std::printf("%s, compute capability %d.%d, %d multiprocessors\n", properties.name,
              properties.major, properties.minor, device.multiprocessors);
  if (!all_are_right(device)) {
    std::fprintf(stderr, "lab: a version is wrong; nothing is timed\n");
    return 1;
  }
  if (!correctness_only) {
    time_all(device);
  }
  return 0;
}
