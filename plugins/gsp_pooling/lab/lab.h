// The two halves of the lab.
#pragma once

#include "device_case.h"
#include "report.h"

namespace gsp_deploy::lab {

constexpr Plan kPlans[] = {Plan::kBlock, Plan::kCluster, Plan::kSplit};
constexpr DataType kTypes[] = {DataType::kFloat32, DataType::kFloat16, DataType::kBFloat16};
constexpr Solver kSolvers[] = {Solver::kFixedPoint, Solver::kNewton, Solver::kCertified};
constexpr Layout kLayouts[] = {Layout::kChannelsFirst, Layout::kChannelsLast};

// The device, and its memory's bandwidth by its clock and width; 0 where CUDA does not say.
struct Machine {
  Device device;
  double gigabytes_a_second = 0;
  int l2_bytes = 0;
};

PoolingParams shape(int batch, int locations, int embedding_dim, int prototypes);

// Set the solver, with steps (and points) enough for the lab's gamma of 5.
void use(Solver solver, PoolingParams* params);

// Compare every plan with the reference; a quick run takes small sizes alone. Return whether all
// are right.
bool all_are_right(const Machine& machine, bool is_quick, Report* report);

// Time every plan beside the calculated floor, with the L2 cache flushed and warm.
void time_all(const Machine& machine, bool is_quick, Report* report);

}  // namespace gsp_deploy::lab
