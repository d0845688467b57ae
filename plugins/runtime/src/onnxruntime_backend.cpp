// ONNX Runtime through its C API, which is versioned: this runs on any release not older than the
// headers that it was compiled with.
#include <dlfcn.h>
#include <onnxruntime_c_api.h>
#if defined(__x86_64__)
#include <cpuid.h>
#endif

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <limits>
#include <optional>
#include <vector>

#include "backend.hpp"
#include "read_file.hpp"
#include "unsigned.hpp"

namespace gsp {
namespace {

namespace fs = std::filesystem;

constexpr std::uintmax_t most_model = (std::uintmax_t{1} << 31) - 1;  // bytes; as protobuf
constexpr const char* output_names[] = {"embedding", "residual"};

// Load the library and keep it for the life of the process: it does not survive being unloaded.
// Linking to it would tie this library to one release, by the version of its symbols.
const OrtApiBase& load(const Options& options) {
  const char* named = std::getenv("GSP_ONNXRUNTIME_LIBRARY");
  std::vector<std::string> candidates = {"libonnxruntime.so.1", "libonnxruntime.so"};
  if (!options.onnxruntime_library.empty()) {
    candidates = {options.onnxruntime_library.string()};
  } else if (named != nullptr && *named != '\0') {
    candidates = {named};
  }
  std::string reason;
  for (const std::string& candidate : candidates) {
    if (void* library = dlopen(candidate.c_str(), RTLD_NOW | RTLD_LOCAL)) {
      using GetApiBase = const OrtApiBase*(ORT_API_CALL*)();
      if (const auto get = reinterpret_cast<GetApiBase>(dlsym(library, "OrtGetApiBase")))
        return *get();
    }
    if (const char* error = dlerror(); reason.empty() && error != nullptr) reason = error;
  }
  throw Error(ErrorKind::missing, "ONNX Runtime cannot be loaded (" + reason +
                                      "); install it, or name its file in GSP_ONNXRUNTIME_LIBRARY");
}

const OrtApi& api(const OrtApiBase& base) {
  if (const OrtApi* found = base.GetApi(ORT_API_VERSION)) return *found;
  throw Error(ErrorKind::missing, std::string("this is ONNX Runtime ") + base.GetVersionString() +
                                      ", expected 1." + std::to_string(ORT_API_VERSION) +
                                      " or newer");
}

// Whether the processor has VNNI: int8 products that do not saturate.
bool has_vnni() {
#if defined(__x86_64__)
  unsigned a = 0, b = 0, c = 0, d = 0;
  const bool avx512 = __get_cpuid_count(7, 0, &a, &b, &c, &d) != 0 && (c & (1u << 11)) != 0;
  const bool avx = __get_cpuid_count(7, 1, &a, &b, &c, &d) != 0 && (a & (1u << 4)) != 0;
  return avx512 || avx;
#else
  return false;
#endif
}

// What the C API hands out, each with its own way of release.
template <typename T>
using Owned = std::unique_ptr<T, void(ORT_API_CALL*)(T*)>;

class OnnxRuntimeBackend final : public InferenceBackend {
 public:
  OnnxRuntimeBackend(const Bundle& bundle, const Artifact& artifact, const Options& options)
      : base_(load(options)),
        api_(api(base_)),
        name_(bundle.path(artifact.file).string()),
        artifact_(artifact),
        dim_(bundle.embedding_dim),
        image_bytes_(input_bytes(bundle, artifact)),
        shape_(input_shape(bundle, artifact)),
        env_(nullptr, api_.ReleaseEnv),
        memory_(nullptr, api_.ReleaseMemoryInfo),
        session_(nullptr, api_.ReleaseSession) {
    env_ = make(api_.ReleaseEnv, [&](OrtEnv** made) {
      return api_.CreateEnv(ORT_LOGGING_LEVEL_ERROR, "gsp_runtime", made);
    });
    memory_ = make(api_.ReleaseMemoryInfo, [&](OrtMemoryInfo** made) {
      return api_.CreateCpuMemoryInfo(OrtArenaAllocator, OrtMemTypeDefault, made);
    });
    const auto settings = make(api_.ReleaseSessionOptions, [&](OrtSessionOptions** made) {
      return api_.CreateSessionOptions(made);
    });
    if (options.threads > 0) check(api_.SetIntraOpNumThreads(settings.get(), options.threads));
    // Workers that spin after a run take their core from whatever runs next.
    check(api_.AddSessionConfigEntry(settings.get(), "session.force_spinning_stop", "1"));
    // x86-64 saturates in 16 bits without this. With VNNI it is exact, and this takes twice the time.
    if (!has_vnni())
      check(api_.AddSessionConfigEntry(settings.get(), "session.x64quantprecision", "1"));
    session_ = open_session(settings.get());
    has_residual_ = has_output(output_names[1]);
  }

  std::string runtime() const override {
    return std::string("onnxruntime ") + base_.GetVersionString();
  }
  std::string device() const override { return "cpu"; }
  bool has_residual() const override { return has_residual_; }
  std::size_t min_batch() const override { return artifact_.fixed_batch.value_or(1); }
  std::size_t max_batch() const override {
    return artifact_.fixed_batch.value_or(std::numeric_limits<std::size_t>::max());
  }

  void run(const void* input, std::size_t count, float* out, float* residuals) const override {
    std::vector<std::int64_t> shape = shape_;
    shape[0] = static_cast<std::int64_t>(count);
    const auto tensor = make(api_.ReleaseValue, [&](OrtValue** made) {
      return api_.CreateTensorWithDataAsOrtValue(  // it reads what it takes as mutable
          memory_.get(), const_cast<void*>(input), count * image_bytes_, shape.data(), shape.size(),
          element_type(), made);
    });
    const char* input_name = artifact_.input_name.c_str();
    const OrtValue* inputs = tensor.get();
    OrtValue* results[] = {nullptr, nullptr};
    OrtStatus* status = api_.Run(session_.get(), nullptr, &input_name, &inputs, 1, output_names,
                                 residuals == nullptr ? 1 : 2, results);
    const Owned<OrtValue> embedding(results[0], api_.ReleaseValue);
    const Owned<OrtValue> residual(results[1], api_.ReleaseValue);
    check(status);
    copy_out(embedding.get(), count * dim_, out);
    if (residuals != nullptr) copy_out(residual.get(), count, residuals);
  }

 private:
  void check(OrtStatus* status) const {
    if (status == nullptr) return;
    const Owned<OrtStatus> owned(status, api_.ReleaseStatus);
    std::string message = api_.GetErrorMessage(status);
    message.resize(std::min(message.find('\n'), message.size()));
    throw Error(ErrorKind::runtime, name_ + ": ONNX Runtime: " + message);
  }

  template <typename T, typename Create>
  Owned<T> make(void(ORT_API_CALL* release)(T*), Create create) const {
    T* made = nullptr;
    check(create(&made));
    return Owned<T>(made, release);
  }

  Owned<OrtSession> open_session(OrtSessionOptions* settings) const {
    const auto unsigned_form = rewritten();
    if (!unsigned_form)
      return make(api_.ReleaseSession, [&](OrtSession** made) {
        return api_.CreateSession(env_.get(), name_.c_str(), settings, made);
      });
    check(api_.AddSessionConfigEntry(  // where the graph's weights are, if not inside
        settings, "session.model_external_initializers_file_folder_path",
        fs::path(name_).parent_path().c_str()));
    return make(api_.ReleaseSession, [&](OrtSession** made) {
      return api_.CreateSessionFromArray(env_.get(), unsigned_form->data(), unsigned_form->size(),
                                         settings, made);
    });
  }

  // An int8 model with uint8 activations, where the processor prefers them.
  std::optional<std::string> rewritten() const {
#if defined(__x86_64__)
    if (artifact_.precision == "int8")
      return unsign(read_file(name_, ErrorKind::bundle, most_model));
#endif
    return std::nullopt;
  }

  bool has_output(const std::string& wanted) const {
    OrtAllocator* allocator = nullptr;
    std::size_t count = 0;
    check(api_.GetAllocatorWithDefaultOptions(&allocator));
    check(api_.SessionGetOutputCount(session_.get(), &count));
    for (std::size_t i = 0; i < count; ++i) {
      char* name = nullptr;
      check(api_.SessionGetOutputName(session_.get(), i, allocator, &name));
      const bool found = wanted == name;
      check(api_.AllocatorFree(allocator, name));
      if (found) return true;
    }
    return false;
  }

  ONNXTensorElementDataType element_type() const {
    switch (artifact_.input_type) {
      case ElementType::uint8: return ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT8;
      case ElementType::float16: return ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT16;
      default: return ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT;
    }
  }

  void copy_out(OrtValue* result, std::size_t wanted, float* out) const {
    const auto info = make(
        api_.ReleaseTensorTypeAndShapeInfo,
        [&](OrtTensorTypeAndShapeInfo** made) { return api_.GetTensorTypeAndShape(result, made); });
    std::size_t count = 0;
    auto type = ONNX_TENSOR_ELEMENT_DATA_TYPE_UNDEFINED;
    void* data = nullptr;
    check(api_.GetTensorShapeElementCount(info.get(), &count));
    check(api_.GetTensorElementType(info.get(), &type));
    check(api_.GetTensorMutableData(result, &data));
    const bool is_half = type == ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT16;
    const bool is_float = type == ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT;
    const std::size_t value_bytes = is_half ? 2 : is_float ? 4 : 0;
    copy_output({data, count, value_bytes}, wanted, name_, out);
  }

  const OrtApiBase& base_;
  const OrtApi& api_;
  std::string name_;
  Artifact artifact_;
  std::size_t dim_;
  std::size_t image_bytes_;
  std::vector<std::int64_t> shape_;
  bool has_residual_ = false;
  Owned<OrtEnv> env_;  // outlives the session
  Owned<OrtMemoryInfo> memory_;
  Owned<OrtSession> session_;
};

}  // namespace

std::unique_ptr<InferenceBackend> open_onnxruntime(const Bundle& bundle, const Artifact& artifact,
                                                   const Options& options) {
  return std::make_unique<OnnxRuntimeBackend>(bundle, artifact, options);
}

}  // namespace gsp
