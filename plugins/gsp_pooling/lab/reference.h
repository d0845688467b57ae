// The pooling in double, on the CPU, from its definition: what the kernels are held to.
#pragma once

#include <vector>

#include "../gsp_pooling.h"

namespace gsp_deploy::lab {

struct Inputs {
  std::vector<double> embeddings;  // (B, D, N)
  std::vector<double> features;    // (B, C, N), empty with kGap
  std::vector<double> prototypes;  // (M, D), inside the unit ball
};

struct Outputs {
  std::vector<double> pooled;      // (B, D) or (B, C)
  std::vector<double> weights;     // (B, N)
  std::vector<double> attributes;  // (B, M)
};

// The exact root by bisection, whichever solver the parameters name.
Outputs pool_on_cpu(const PoolingParams& params, const Inputs& inputs);

}  // namespace gsp_deploy::lab
