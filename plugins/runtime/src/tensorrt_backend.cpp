// TensorRT 10.3 to 11: an engine, and a few contexts that threads take in turns.
#include <NvInferRuntime.h>

#include <algorithm>
#include <cmath>
#include <condition_variable>
#include <limits>
#include <mutex>
#include <vector>

#include "backend.hpp"
#include "half.hpp"
#include "read_file.hpp"
#include "tensorrt_profiles.hpp"
#include "tensorrt_slot.hpp"
#include "tensorrt_start.hpp"

namespace gsp {
namespace {

constexpr const char* output_name = "embedding";

std::size_t bytes_of(nvinfer1::DataType type, const std::string& file) {
  switch (type) {
    case nvinfer1::DataType::kFLOAT: return 4;
    case nvinfer1::DataType::kHALF: return 2;
    case nvinfer1::DataType::kUINT8: return 1;
    default: throw Error(ErrorKind::bundle, file + ": expected uint8, float16 or float32 tensors");
  }
}

// The profiles that take images of these sizes; an engine of a fixed shape has one.
std::vector<BatchProfile> profiles_of(const nvinfer1::ICudaEngine& engine, const char* input,
                                      const nvinfer1::Dims& image) {
  const nvinfer1::Dims shape = engine.getTensorShape(input);
  const bool is_open = std::any_of(shape.d, shape.d + shape.nbDims, [](auto d) { return d < 0; });
  if (!is_open) {
    const auto batch = static_cast<std::size_t>(shape.d[0]);
    return {{0, batch, batch, batch, 0.0}};
  }
  std::vector<BatchProfile> found;
  for (int index = 0; index < engine.getNbOptimizationProfiles(); ++index) {
    using Selector = nvinfer1::OptProfileSelector;
    const auto low = engine.getProfileShape(input, index, Selector::kMIN);
    const auto best = engine.getProfileShape(input, index, Selector::kOPT);
    const auto high = engine.getProfileShape(input, index, Selector::kMAX);
    bool admits = true;
    double distance = 0.0;
    for (int axis = 1; axis < image.nbDims; ++axis) {
      admits = admits && low.d[axis] <= image.d[axis] && image.d[axis] <= high.d[axis];
      distance += std::fabs(std::log(static_cast<double>(image.d[axis]) /
                                     static_cast<double>(best.d[axis])));
    }
    const auto size = [](std::int64_t batch) { return static_cast<std::size_t>(batch); };
    if (admits) found.push_back({index, size(low.d[0]), size(best.d[0]), size(high.d[0]), distance});
  }
  return found;
}

class TensorRTBackend final : public InferenceBackend {
 public:
  TensorRTBackend(const Bundle& bundle, const Artifact& artifact, const Options& options)
      : device_(options.device), dim_(bundle.embedding_dim) {
    const CurrentDevice current(device_);
    cudaDeviceProp gpu{};
    check_cuda(cudaGetDeviceProperties(&gpu, device_), "describe this GPU");
    gpu_name_ = gpu.name;
    check_fits(artifact, gpu);
    runtime_ = start_runtime(logger_);
    if (artifact.needs_host_code() && !options.allow_host_code)
      throw Error(ErrorKind::usage, artifact.file +
                                        " is version compatible and carries code for this host; "
                                        "set allow_host_code if you trust whoever built it");
    runtime_->setEngineHostCodeAllowed(options.allow_host_code);
    if (!artifact.plugin.empty()) load_plugin(bundle.path(artifact.plugin));
    for (const auto& library : options.plugin_libraries) load_plugin(library);
    load(bundle.path(artifact.file));
    describe(bundle, artifact, options);
    for (int i = 0; i < options.contexts; ++i)
      free_.push_back(std::make_unique<TensorRTSlot>(*engine_, shape_));
  }

  std::string runtime() const override { return tensorrt_name(); }
  std::string device() const override {
    return "cuda:" + std::to_string(device_) + " " + gpu_name_;
  }
  std::size_t min_batch() const override { return min_batch_; }
  std::size_t max_batch() const override { return shape_.max_batch; }

  bool has_residual() const override { return shape_.has_residual; }

  void run(const void* input, std::size_t count, float* out, float* residuals) const override {
    const Lease slot(*this);
    if (!half_output_) return slot->run(input, count, out, residuals);
    std::vector<std::uint16_t> halves(count * dim_);
    slot->run(input, count, halves.data(), residuals);
    std::transform(halves.begin(), halves.end(), out, from_half);
  }

  void run_on_device(const void* input, std::size_t count, float* out,
                     void* stream) const override {
    if (half_output_)
      throw Error(ErrorKind::usage,
                  "embed_device writes float32, this engine gives float16; "
                  "export with --io-precision fp32");
    const Lease slot(*this);
    slot->run_on_device(input, count, out, static_cast<cudaStream_t>(stream));
  }

 private:
  // A slot for as long as a call lasts; waits until one is free.
  class Lease {
   public:
    explicit Lease(const TensorRTBackend& from) : from_(from), current_(from.device_) {
      std::unique_lock lock(from_.mutex_);
      from_.returned_.wait(lock, [&] { return !from_.free_.empty(); });
      slot_ = std::move(from_.free_.back());
      from_.free_.pop_back();
    }
    ~Lease() {
      {
        const std::lock_guard lock(from_.mutex_);
        from_.free_.push_back(std::move(slot_));  // room was kept for it
      }
      from_.returned_.notify_one();
    }
    Lease(const Lease&) = delete;
    Lease& operator=(const Lease&) = delete;
    TensorRTSlot* operator->() const { return slot_.get(); }

   private:
    const TensorRTBackend& from_;
    CurrentDevice current_;
    std::unique_ptr<TensorRTSlot> slot_;
  };

  void load_plugin(const std::filesystem::path& library) {
    if (runtime_->getPluginRegistry().loadLibrary(std::filesystem::absolute(library).c_str()) ==
        nullptr)
      throw Error(ErrorKind::missing,
                  library.string() + ": TensorRT cannot load it: " + logger_->last());
  }

  void load(const std::filesystem::path& file) {
    constexpr auto any_size = std::numeric_limits<std::uintmax_t>::max();
    const std::string plan = read_file(file, ErrorKind::bundle, any_size);
    engine_.reset(runtime_->deserializeCudaEngine(plan.data(), plan.size()));
    if (!engine_)
      throw Error(ErrorKind::missing,
                  file.string() + ": TensorRT cannot load it: " + logger_->last());
  }

  void describe(const Bundle& bundle, const Artifact& artifact, const Options& options) {
    const char* input = artifact.input_name.c_str();
    if (engine_->getTensorIOMode(input) != nvinfer1::TensorIOMode::kINPUT ||
        engine_->getTensorIOMode(output_name) != nvinfer1::TensorIOMode::kOUTPUT)
      throw Error(ErrorKind::bundle, artifact.file + ": expected an input " + artifact.input_name +
                                         " and an output embedding");
    const nvinfer1::Dims dims = engine_->getTensorShape(input);
    const auto output_type = engine_->getTensorDataType(output_name);
    half_output_ = output_type == nvinfer1::DataType::kHALF;
    shape_.input_name = artifact.input_name;
    shape_.output_name = output_name;
    shape_.input_dims = fitting(dims, bundle.preprocessing, artifact);
    shape_.input_bytes = input_bytes(bundle, artifact);
    shape_.output_bytes = dim_ * bytes_of(output_type, artifact.file);
    describe_further_outputs(artifact);
    shape_.profiles = profiles_of(*engine_, input, shape_.input_dims);
    if (shape_.profiles.empty())
      throw Error(ErrorKind::bundle,
                  artifact.file + ": none of its profiles takes images of the size that "
                                  "bundle.json says");
    min_batch_ = least_batch(shape_.profiles);
    shape_.max_batch = std::max(min_batch_, std::min(options.max_batch, most_batch(shape_.profiles)));
    shape_.use_graphs = options.cuda_graphs;
    const std::size_t wanted = artifact.input_type == ElementType::uint8     ? 1
                               : artifact.input_type == ElementType::float16 ? 2
                                                                             : 4;
    if (bytes_of(engine_->getTensorDataType(input), artifact.file) != wanted)
      throw Error(ErrorKind::bundle,
                  artifact.file + ": its input is not of the type that bundle.json says");
    free_.reserve(static_cast<std::size_t>(options.contexts));
  }

  // An engine runs only where every output of it has memory.
  void describe_further_outputs(const Artifact& artifact) {
    for (int i = 0; i < engine_->getNbIOTensors(); ++i) {
      const char* name = engine_->getIOTensorName(i);
      if (engine_->getTensorIOMode(name) != nvinfer1::TensorIOMode::kOUTPUT ||
          shape_.output_name == name)
        continue;
      if (std::string("residual") == name &&
          engine_->getTensorDataType(name) == nvinfer1::DataType::kFLOAT) {
        shape_.has_residual = true;
        continue;
      }
      const nvinfer1::Dims dims = engine_->getTensorShape(name);
      std::size_t bytes = bytes_of(engine_->getTensorDataType(name), artifact.file);
      for (int d = 1; d < dims.nbDims; ++d) {
        if (dims.d[d] < 0)
          throw Error(ErrorKind::bundle, artifact.file + ": its output " + name +
                                             " is of an open size; export it with a fixed one");
        bytes *= static_cast<std::size_t>(dims.d[d]);
      }
      shape_.unread.emplace_back(name, bytes);
    }
  }

  // The input's sizes with the open ones filled in, the batch by one.
  static nvinfer1::Dims fitting(nvinfer1::Dims dims, const Preprocessing& spec,
                                const Artifact& artifact) {
    const bool pixels = artifact.input_type == ElementType::uint8;
    const std::int64_t wanted[4] = {1, pixels ? spec.height : 3, pixels ? spec.width : spec.height,
                                    pixels ? 3 : spec.width};
    bool fits = dims.nbDims == 4;
    for (int i = 1; fits && i < 4; ++i) fits = dims.d[i] < 0 || dims.d[i] == wanted[i];
    if (!fits)
      throw Error(ErrorKind::bundle,
                  artifact.file + ": its input has not the shape that bundle.json says");
    std::copy_n(wanted, 4, dims.d);
    return dims;
  }

  int device_;
  std::size_t dim_;
  std::string gpu_name_;
  std::shared_ptr<TensorRTLogger> logger_ = std::make_shared<TensorRTLogger>();  // outlives all
  std::unique_ptr<nvinfer1::IRuntime> runtime_;
  std::unique_ptr<nvinfer1::ICudaEngine> engine_;
  EngineShape shape_{};
  std::size_t min_batch_ = 1;
  bool half_output_ = false;
  mutable std::mutex mutex_;
  mutable std::condition_variable returned_;
  mutable std::vector<std::unique_ptr<TensorRTSlot>> free_;
};

}  // namespace

std::unique_ptr<InferenceBackend> open_tensorrt(const Bundle& bundle, const Artifact& artifact,
                                                const Options& options) {
  return std::make_unique<TensorRTBackend>(bundle, artifact, options);
}

}  // namespace gsp
