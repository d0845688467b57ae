// What the parameters may be, how much workspace they need, and which plan suits them. No kernels.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <sstream>

#include "gsp_pooling.h"

namespace gsp_deploy {
namespace {

template <typename T>
std::string out_of_range(const char* name, const char* allowed, T value) {
  std::ostringstream text;
  text << name << " must be " << allowed << ", got " << value;
  return text.str();
}

std::string problem_with_count(const char* name, int32_t value, int32_t most) {
  if (value >= 1 && value <= most) {
    return "";
  }
  return out_of_range(name, ("from 1 to " + std::to_string(most)).c_str(), value);
}

template <typename E>
bool is_one_of(E value, E last) {
  return static_cast<int32_t>(value) >= 0 && value <= last;
}

std::string problem_with_formats(const PoolingParams& p) {
  if (!is_one_of(p.solver, Solver::kCertified)) {
    return out_of_range("solver", "0 (fixed point), 1 (Newton) or 2 (certified)", static_cast<int>(p.solver));
  }
  if (!is_one_of(p.pooling, Pooling::kGem)) {
    return out_of_range("pooling", "0 (gap), 1 (gmp) or 2 (gem)", static_cast<int>(p.pooling));
  }
  if (!is_one_of(p.input_type, DataType::kBFloat16) ||
      !is_one_of(p.output_type, DataType::kBFloat16)) {
    return "types must be 0 (float32), 1 (float16) or 2 (bfloat16)";
  }
  if (!is_one_of(p.layout, Layout::kChannelsLast)) {
    return out_of_range("layout", "0 (channels first) or 1 (channels last)",
                        static_cast<int>(p.layout));
  }
  return "";
}

// Written so that a NaN is out of range.
std::string problem_with_settings(const PoolingParams& p) {
  if (!(p.transport_ratio > 0.0F && p.transport_ratio <= 1.0F)) {
    return out_of_range("transport_ratio", "above 0 and at most 1", p.transport_ratio);
  }
  if (!(p.entropy_weight > 0.0F && p.entropy_weight <= 1e6F)) {
    return out_of_range("entropy_weight", "above 0 and at most 1e6", p.entropy_weight);
  }
  if (p.iterations < 1) {
    return out_of_range("iterations", "at least 1", p.iterations);
  }
  if (p.solver != Solver::kCertified && p.grid_points != 0) {
    return out_of_range("grid_points", "0 unless the solver is certified", p.grid_points);
  }
  if (p.solver == Solver::kCertified) {
    const std::string problem = problem_with_count("grid_points", p.grid_points, kMaxGridPoints);
    if (!problem.empty()) {
      return problem + " for the certified solver";
    }
  }
  if (p.initial_scale != 0.0F && !(p.initial_scale >= 1e-30F && p.initial_scale <= 1e30F)) {
    return out_of_range("initial_scale", "0 (for mu) or from 1e-30 to 1e30", p.initial_scale);
  }
  const float power = std::fabs(p.power);
  if (p.pooling == Pooling::kGem && !(power >= 1e-3F && power <= 1e3F)) {
    return out_of_range("power", "from 1e-3 to 1e3 in size", p.power);
  }
  if (p.normalize && p.pooling != Pooling::kGap) {
    return "normalize must be false for gmp and gem: what they pool is embedded outside first";
  }
  return "";
}

// An address between two elements would end the kernel, and the CUDA context with it.
std::string problem_with_address(const char* name, const void* address, DataType type) {
  const uintptr_t size = type == DataType::kFloat32 ? 4 : 2;
  if (reinterpret_cast<uintptr_t>(address) % size == 0) {
    return "";
  }
  std::ostringstream text;
  text << name << " must begin at a multiple of its element's " << size << " bytes, got " << address;
  return text.str();
}

size_t aligned(size_t bytes) { return (bytes + 15) / 16 * 16; }

}  // namespace

std::string problem_with(const PoolingParams& p) {
  if (p.batch < 0 || p.batch > kMaxBatch) {
    const std::string allowed = "from 0 to " + std::to_string(kMaxBatch);
    return out_of_range("batch", allowed.c_str(), p.batch);
  }
  const bool reads_features = p.pooling != Pooling::kGap;
  for (const std::string& problem :
       {problem_with_count("locations", p.locations, kMaxLocations),
        problem_with_count("embedding_dim", p.embedding_dim, kMaxEmbeddingDim),
        problem_with_count("num_prototypes", p.num_prototypes, kMaxPrototypes),
        problem_with_formats(p), problem_with_settings(p),
        reads_features ? problem_with_count("channels", p.channels, kMaxChannels) : ""}) {
    if (!problem.empty()) {
      return problem;
    }
  }
  return "";
}

std::string problem_with(const PoolingParams& p, const PoolingTensors& tensors) {
  const bool reads_features = p.pooling != Pooling::kGap;
  if (tensors.embeddings == nullptr || tensors.prototypes == nullptr ||
      tensors.pooled == nullptr) {
    return "embeddings, prototypes and pooled must be there";
  }
  if (reads_features && tensors.features == nullptr) {
    return "gmp and gem pool the backbone's features: they must be there";
  }
  if (tensors.embedding_bound != nullptr && (reads_features || tensors.residual == nullptr)) {
    return "embedding_bound needs gap pooling and the residual beside it";
  }
  constexpr DataType kFloat = DataType::kFloat32;
  for (const std::string& problem :
       {problem_with_address("embeddings", tensors.embeddings, p.input_type),
        problem_with_address("features", tensors.features, p.input_type),
        problem_with_address("prototypes", tensors.prototypes, kFloat),
        problem_with_address("pooled", tensors.pooled, p.output_type),
        problem_with_address("weights", tensors.weights, p.output_type),
        problem_with_address("attributes", tensors.attributes, p.output_type),
        problem_with_address("residual", tensors.residual, kFloat),
        problem_with_address("embedding_bound", tensors.embedding_bound, kFloat)}) {
    if (!problem.empty()) {
      return problem;
    }
  }
  return "";
}

bool plan_is_possible(Plan plan, const Device& device) noexcept {
  switch (plan) {
    case Plan::kAuto:
    case Plan::kBlock:
    case Plan::kSplit:
      return true;
    case Plan::kCluster:
      return device.compute_capability >= 90;
  }
  return false;
}

// A cluster an image while all clusters have multiprocessors of their own; blocks of all sizes
// where half the device would idle and the work of an image is worth the extra launches; else a
// block an image. The thresholds are reasoned (README.md), not measured.
Plan choose_plan(const PoolingParams& p, const Device& device) noexcept {
  constexpr int64_t kClusterBlocks = 8;
  constexpr int64_t kSmallImage = 4'000'000;   // multiply-adds: some 5 us of one multiprocessor
  constexpr int64_t kLargeImage = 32'000'000;  // more than eight of them should share
  const int64_t work = int64_t{p.locations} * p.embedding_dim * p.num_prototypes;
  const bool clusters_fit = plan_is_possible(Plan::kCluster, device) &&
                            kClusterBlocks * p.batch <= device.multiprocessors;
  if (clusters_fit && work < kLargeImage) {
    return Plan::kCluster;
  }
  const bool half_idles = int64_t{2} * p.batch <= device.multiprocessors;
  return half_idles && work >= kSmallImage ? Plan::kSplit : Plan::kBlock;
}

size_t workspace_bytes(const PoolingParams& p) noexcept {
  const auto floats = [batch = static_cast<size_t>(std::max(p.batch, 0))](int32_t an_image) {
    return aligned(batch * static_cast<size_t>(an_image) * sizeof(float));
  };
  return floats(p.locations) + floats(2) + floats(p.locations) + floats(p.embedding_dim);
}

}  // namespace gsp_deploy
