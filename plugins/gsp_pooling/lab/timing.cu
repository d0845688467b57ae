// Single runs of every plan, beside the time that the memory alone would take.
#include <algorithm>
#include <cmath>
#include <cstdio>

#include "lab.h"
#include "names.h"

namespace gsp_deploy::lab {
namespace {

constexpr int kRuns = 200;
constexpr int kQuickRuns = 2;

struct Times {
  float p50, p90;
};

// Microseconds of single runs; before each, everything is thrown out of the L2 cache, or one more
// run has filled it.
Times times_of(const DeviceCase& device_case, Plan plan, const Buffer* flood, int runs) {
  cudaEvent_t start, stop;
  check(cudaEventCreate(&start), "event");
  check(cudaEventCreate(&stop), "event");
  std::vector<float> times;
  for (int run = 0; run < runs; ++run) {
    if (flood != nullptr) {
      check(cudaMemsetAsync(flood->data(), run & 0xff, flood->bytes()), "flood");
    } else {
      check(device_case.launch(plan), "launch");
    }
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
  return {times[times.size() / 2], times[times.size() * 9 / 10]};
}

// Microseconds in which the device's memory moves what the kernel must read and write.
double floor_of(const PoolingParams& p, const Machine& machine) {
  const double element = p.input_type == DataType::kFloat32 ? 4 : 2;
  const double read = element * p.batch * p.locations * p.embedding_dim +
                      4.0 * p.num_prototypes * p.embedding_dim;
  const double written = 4.0 * p.batch * (p.embedding_dim + p.locations);
  const double bandwidth = machine.gigabytes_a_second;
  return bandwidth > 0 ? (read + written) / bandwidth / 1000 : NAN;
}

void time_plans(PoolingParams p, const Machine& machine, const Buffer& flood, int runs,
                Report* report) {
  const DeviceCase whole(p, false);
  const double floor = floor_of(p, machine);
  const Plan chosen = choose_plan(p, machine.device);
  p.transport_ratio = 1;  // the average: what reading the embeddings and a launch cost
  const DeviceCase average(p, false);
  for (const Plan plan : kPlans) {
    if (!plan_is_possible(plan, machine.device)) {
      continue;
    }
    for (const bool is_warm : {false, true}) {
      const Times times = times_of(whole, plan, is_warm ? nullptr : &flood, runs);
      const Times least = times_of(average, plan, is_warm ? nullptr : &flood, runs);
      std::printf("%-8s %-11s %-9s %-6s %5d %5d %5d %5d %-7s  %8.2f %8.2f %8.2f %8.2f%s\n",
                  name(plan), name(p.solver), name(p.input_type), name(p.layout), p.batch,
                  p.locations, p.embedding_dim, p.num_prototypes, is_warm ? "warm" : "flushed",
                  times.p50, times.p90, least.p50, floor, plan == chosen ? "  chosen" : "");
      Row row;
      row.add("plan", name(plan)).add("solver", name(p.solver)).add("input", name(p.input_type));
      row.add("layout", name(p.layout)).add("batch", p.batch).add("locations", p.locations);
      row.add("embedding_dim", p.embedding_dim).add("prototypes", p.num_prototypes);
      row.add("l2", is_warm ? "warm" : "flushed").add("p50_us", double{times.p50});
      row.add("p90_us", double{times.p90}).add("average_p50_us", double{least.p50});
      row.add("floor_us", floor).add("chosen", plan == chosen).add("runs", runs);
      report->timings.push_back(row);
    }
  }
}

}  // namespace

void time_all(const Machine& machine, bool is_quick, Report* report) {
  const Buffer flood(2 * static_cast<size_t>(std::max(machine.l2_bytes, 1 << 20)));
  const int runs = is_quick ? kQuickRuns : kRuns;
  std::printf("\nmicroseconds of %d single runs, events around the launch; floor: what the memory "
              "needs\n", runs);
  std::printf("%-8s %-11s %-9s %-6s %5s %5s %5s %5s %-7s  %8s %8s %8s %8s\n", "plan", "solver",
              "type", "layout", "batch", "N", "D", "M", "L2", "p50", "p90", "mu = 1", "floor");
  const std::vector<int> batches = is_quick ? std::vector<int>{1} : std::vector<int>{1, 8, 64, 256};
  const std::vector<int> locations = is_quick ? std::vector<int>{9} : std::vector<int>{49, 196, 784};
  for (const int batch : batches) {
    for (const int N : locations) {
      for (const DataType type : kTypes) {
        for (const Layout layout : kLayouts) {
          for (const Solver solver : {Solver::kNewton, Solver::kCertified}) {
            if (is_quick && solver != Solver::kCertified) {
              continue;
            }
            PoolingParams p = is_quick ? shape(batch, N, 16, 3) : shape(batch, N, 512, 64);
            p.input_type = type;
            p.layout = layout;
            p.normalize = true;
            use(solver, &p);
            time_plans(p, machine, flood, runs, report);
          }
        }
      }
    }
  }
  if (is_quick) {
    return;
  }
  for (const int batch : {1, 8}) {  // more work an image, for the thresholds between plans
    PoolingParams p = shape(batch, 784, 2048, 128);
    p.input_type = DataType::kFloat16;
    p.layout = Layout::kChannelsLast;
    p.normalize = true;
    use(Solver::kCertified, &p);
    time_plans(p, machine, flood, runs, report);
  }
}

}  // namespace gsp_deploy::lab
