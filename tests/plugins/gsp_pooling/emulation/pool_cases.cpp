// Runs the launcher on cases from standard input and writes what it returns to standard output:
// nothing here knows what the results should be. `cases.py`, one folder up, is the other end.
//
// A case is a header of 4-byte fields and the input arrays; an answer is the error and, without one,
// the outputs, or the length and the text of what problem_with() says. Every array is an allocation
// of its own of exactly its size.
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <string>

#include "gsp_pooling.h"

using namespace gsp_deploy;

namespace {

struct Header {
  int32_t batch, locations, embedding_dim, num_prototypes, channels;
  float transport_ratio, entropy_weight;
  int32_t solver, iterations, grid_points;
  float initial_scale;
  int32_t pooling;
  float power;
  int32_t normalize, input_type, output_type, layout;
  int32_t plan, wants_weights, wants_attributes, wants_residual, wants_bound, misaligned;
};

PoolingParams params_of(const Header& h) {
  PoolingParams params;
  params.batch = h.batch;
  params.locations = h.locations;
  params.embedding_dim = h.embedding_dim;
  params.num_prototypes = h.num_prototypes;
  params.channels = h.channels;
  params.transport_ratio = h.transport_ratio;
  params.entropy_weight = h.entropy_weight;
  params.solver = static_cast<Solver>(h.solver);
  params.iterations = h.iterations;
  params.grid_points = h.grid_points;
  params.initial_scale = h.initial_scale;
  params.pooling = static_cast<Pooling>(h.pooling);
  params.power = h.power;
  params.normalize = h.normalize != 0;
  params.input_type = static_cast<DataType>(h.input_type);
  params.output_type = static_cast<DataType>(h.output_type);
  params.layout = static_cast<Layout>(h.layout);
  return params;
}

size_t size_of(int32_t type) { return type == 0 ? 4 : 2; }

// An array that begins some elements behind an aligned address; -1 stands for half an element.
class Array {
 public:
  Array(size_t count, size_t item, int32_t elements)
      : bytes_(count * item),
        offset_(elements < 0 ? item / 2 : static_cast<size_t>(elements) * item),
        memory_(static_cast<unsigned char*>(std::malloc(bytes_ + offset_)), &std::free) {}

  void* data() { return memory_.get() + offset_; }
  void read() {
    if (std::fread(data(), 1, bytes_, stdin) != bytes_) {
      std::fprintf(stderr, "a case ends too early\n");
      std::exit(1);
    }
  }
  void write() { std::fwrite(data(), 1, bytes_, stdout); }

 private:
  size_t bytes_;
  size_t offset_;
  std::unique_ptr<unsigned char, decltype(&std::free)> memory_;
};

void run_case(const Header& h) {
  const PoolingParams params = params_of(h);
  const size_t batch = h.batch;
  const size_t in = size_of(h.input_type);
  const size_t out = size_of(h.output_type);
  const bool reads_features = params.pooling != Pooling::kGap;
  Array embeddings(batch * h.embedding_dim * h.locations, in, h.misaligned);
  Array features(reads_features ? batch * h.channels * h.locations : 0, in, h.misaligned);
  Array prototypes(static_cast<size_t>(h.num_prototypes) * h.embedding_dim, 4, h.misaligned);
  Array pooled(batch * (reads_features ? h.channels : h.embedding_dim), out, h.misaligned);
  Array weights(batch * h.locations, out, h.misaligned);
  Array attributes(batch * h.num_prototypes, out, h.misaligned);
  Array residual(batch, 4, h.misaligned);
  Array bound(batch, 4, h.misaligned);
  Array workspace(workspace_bytes(params), 1, 0);
  embeddings.read();
  features.read();
  prototypes.read();

  PoolingTensors tensors;
  tensors.embeddings = embeddings.data();
  tensors.features = reads_features ? features.data() : nullptr;
  tensors.prototypes = static_cast<const float*>(prototypes.data());
  tensors.pooled = pooled.data();
  tensors.weights = h.wants_weights != 0 ? weights.data() : nullptr;
  tensors.attributes = h.wants_attributes != 0 ? attributes.data() : nullptr;
  tensors.residual = h.wants_residual != 0 ? static_cast<float*>(residual.data()) : nullptr;
  tensors.embedding_bound = h.wants_bound != 0 ? static_cast<float*>(bound.data()) : nullptr;
  const auto plan = static_cast<Plan>(h.plan);
  const int32_t error = launch_pooling(params, tensors, workspace.data(), nullptr, plan);
  std::fwrite(&error, sizeof error, 1, stdout);
  if (error != cudaSuccess) {
    std::string problem = problem_with(params);
    if (problem.empty()) {
      problem = problem_with(params, tensors);
    }
    const auto length = static_cast<int32_t>(problem.size());
    std::fwrite(&length, sizeof length, 1, stdout);
    std::fwrite(problem.data(), 1, problem.size(), stdout);
  } else {
    pooled.write();
    if (h.wants_weights != 0) {
      weights.write();
    }
    if (h.wants_attributes != 0) {
      attributes.write();
    }
    if (h.wants_residual != 0) {
      residual.write();
    }
    if (h.wants_bound != 0) {
      bound.write();
    }
  }
}

}  // namespace

int main() {
  Header header;
  while (std::fread(&header, sizeof header, 1, stdin) == 1) {
    run_case(header);
  }
  return 0;
}
