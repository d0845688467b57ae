// Every plan, type, layout, pooling and solver against the reference in double; then the same with
// other output types, on addresses of one element, and captured as a CUDA graph.
#include <algorithm>
#include <cmath>
#include <cstdio>

#include "lab.h"
#include "names.h"

namespace gsp_deploy::lab {
namespace {

struct Case {
  PoolingParams params;
  bool is_misaligned = false;
  bool is_captured = false;
};

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

double tolerance_of(const PoolingParams& p) {
  const double cost = p.input_type == DataType::kBFloat16 ? 2e-4 : 5e-5;
  switch (p.output_type) {
    case DataType::kFloat16:
      return cost + 5e-4;  // half a unit in the last place of 11 bits
    case DataType::kBFloat16:
      return cost + 4e-3;  // of 8 bits
    default:
      return cost;
  }
}

void launch(const Case& c, const DeviceCase& device_case, Plan plan) {
  check(c.is_captured ? device_case.launch_captured(plan) : device_case.launch(plan), "launch");
}

// Compare one plan with the reference, and with itself run again.
bool is_right(const Case& c, const DeviceCase& device_case, const Outputs& expected, Plan plan,
              Report* report) {
  const PoolingParams& p = c.params;
  const bool solves = p.transport_ratio < 1;  // else there are no attributes
  launch(c, device_case, plan);
  const Outputs found = device_case.fetch();
  launch(c, device_case, plan);
  const Outputs again = device_case.fetch();
  const double errors[] = {error_of(found.pooled, expected.pooled),
                           error_of(found.weights, expected.weights),
                           solves ? error_of(found.attributes, expected.attributes) : 0};
  const bool close = *std::max_element(errors, errors + 3) <= tolerance_of(p);
  const bool same = found.pooled == again.pooled && found.weights == again.weights &&
                    (!solves || found.attributes == again.attributes);
  const double ratio = p.transport_ratio;
  std::printf("%-8s %-11s %-9s %-9s %-6s %-4s %4.1f %5d %5d %5d %s%s  %8.1e %8.1e %8.1e  %s%s\n",
              name(plan), name(p.solver), name(p.input_type), name(p.output_type), name(p.layout),
              name(p.pooling), ratio, p.locations, p.embedding_dim, p.num_prototypes,
              c.is_misaligned ? "m" : "-", c.is_captured ? "c" : "-", errors[0], errors[1],
              errors[2], close ? "right" : "WRONG", same ? "" : ", NOT THE SAME TWICE");
  Row row;
  row.add("plan", name(plan)).add("solver", name(p.solver)).add("input", name(p.input_type));
  row.add("output", name(p.output_type)).add("layout", name(p.layout));
  row.add("pooling", name(p.pooling)).add("transport_ratio", ratio);
  row.add("locations", p.locations).add("embedding_dim", p.embedding_dim);
  row.add("prototypes", p.num_prototypes).add("misaligned", c.is_misaligned);
  row.add("captured", c.is_captured).add("pooled_error", errors[0]);
  row.add("weights_error", errors[1]).add("attributes_error", errors[2]);
  row.add("right", close).add("same_twice", same);
  report->correctness.push_back(row);
  return close && same;
}

// Every type, layout, pooling and solver at one size; at mu = 1 nothing is solved.
void add_modes(PoolingParams p, bool is_quick, std::vector<Case>* cases) {
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
            if (is_quick && solver != Solver::kCertified) {
              continue;
            }
            use(solver, &p);
            cases->push_back({p});
          }
        }
      }
    }
  }
}

// What the modes do not have: output types, addresses and graphs, in every input type and layout.
void add_variants(PoolingParams p, std::vector<Case>* cases) {
  p.normalize = true;
  use(Solver::kCertified, &p);
  for (const DataType type : kTypes) {
    for (const Layout layout : kLayouts) {
      p.input_type = type;
      p.layout = layout;
      for (const DataType output : {DataType::kFloat16, DataType::kBFloat16}) {
        p.output_type = output;
        cases->push_back({p});
      }
      p.output_type = DataType::kFloat32;
      cases->push_back({p, true, false});
      cases->push_back({p, false, true});
    }
  }
}

std::vector<Case> cases_of(bool is_quick) {
  std::vector<Case> cases;
  const int sizes[][3] = {{9, 13, 3}, {33, 13, 3}, {1, 8, 1}, {49, 512, 64}, {50, 70, 129},
                          {784, 128, 64}};
  for (const auto& size : sizes) {
    const PoolingParams p = shape(is_quick ? 1 : 3, size[0], size[1], size[2]);
    add_modes(p, is_quick, &cases);
    add_variants(p, &cases);
    if (is_quick) {
      break;
    }
  }
  return cases;
}

}  // namespace

bool all_are_right(const Machine& machine, bool is_quick, Report* report) {
  std::printf("%-8s %-11s %-9s %-9s %-6s %-4s %4s %5s %5s %5s %s  %8s %8s %8s\n", "plan", "solver",
              "type", "output", "layout", "pool", "mu", "N", "D", "M", "mc", "pooled", "weights",
              "attrib.");
  bool right = true;
  for (const Case& c : cases_of(is_quick)) {
    // Attributes would have it solved at mu = 1 too.
    const DeviceCase device_case(c.params, c.params.transport_ratio < 1, c.is_misaligned);
    const Outputs expected = pool_on_cpu(c.params, device_case.inputs());
    for (const Plan plan : kPlans) {
      if (plan_is_possible(plan, machine.device)) {
        right = is_right(c, device_case, expected, plan, report) && right;
      }
    }
  }
  return right;
}

}  // namespace gsp_deploy::lab
