// OpenVINO on the CPU through its C API. Left alone, OpenVINO computes a float32 file in bfloat16 if
// the processor has it: so the precision is always set.
#include <signal.h>

#include <algorithm>
#include <limits>
#include <memory>
#include <mutex>
#include <sstream>
#include <string>
#include <vector>

#include "backend.hpp"
#include "openvino_api.hpp"

namespace gsp {
namespace {

constexpr const char* device_name = "CPU";
constexpr const char* output_names[] = {"embedding", "residual"};

// A precision by our name, OpenVINO's as a hint and as a capability, and as an element type.
struct Precision {
  const char *word, *hint, *capability, *element;
};
constexpr Precision precisions[] = {
    {"fp32", "f32", "FP32", "float32"},
    {"bf16", "bf16", "BF16", "bfloat16"},
    {"fp16", "f16", "FP16", "float16"},
};

const Precision* precision_named(const std::string& word) {
  for (const Precision& one : precisions)
    if (word == one.word) return &one;
  return nullptr;
}

// What the C API hands out, each with its own way of release.
template <typename T>
using Owned = std::unique_ptr<T, void (*)(T*)>;

// Keeps this thread's stack for signals. OpenVINO's CPU plugin replaces it when it is loaded, and
// frees its own with its core, also if the thread still uses that one because cores were not
// released in reverse order. The next signal would then end the process.
class SignalStackKept {
 public:
  SignalStackKept() { is_known_ = sigaltstack(nullptr, &before_) == 0; }
  ~SignalStackKept() {
    if (is_known_) sigaltstack(&before_, nullptr);
  }
  SignalStackKept(const SignalStackKept&) = delete;
  SignalStackKept& operator=(const SignalStackKept&) = delete;

 private:
  stack_t before_{};
  bool is_known_;
};

class OpenVinoBackend final : public InferenceBackend {
 public:
  OpenVinoBackend(const Bundle& bundle, const Artifact& artifact, const Options& options)
      : api_(openvino_api(options)),
        name_(bundle.path(artifact.file).string()),
        artifact_(artifact),
        dim_(bundle.embedding_dim),
        image_bytes_(input_bytes(bundle, artifact)),
        shape_(input_shape(bundle, artifact)),
        core_(nullptr, api_.core_free),
        compiled_(nullptr, api_.compiled_model_free) {
    const SignalStackKept kept;
    core_ = make(api_.core_free, [&](ov_core** made) { return api_.core_create(made); });
    precision_ = chosen_precision();
    const auto model = make(api_.model_free, [&](ov_model** made) {
      return api_.core_read_model(core_.get(), name_.c_str(), nullptr, made);
    });
    describe(*model);
    compile(*model, options);
  }

  std::string runtime() const override {
    OpenVinoVersion version{};
    check(api_.get_openvino_version(&version));
    const std::string build = version.build == nullptr ? "" : version.build;
    api_.version_free(&version);
    return "openvino " + build.substr(0, build.find('-'));
  }
  std::string device() const override {
    const bool quantised = artifact_.precision == "int8";
    return std::string("CPU, computes in ") + (quantised ? "int8 and " : "") + precision_->element;
  }
  bool has_residual() const override { return has_residual_; }
  std::size_t min_batch() const override { return artifact_.fixed_batch.value_or(1); }
  std::size_t max_batch() const override {
    return artifact_.fixed_batch.value_or(std::numeric_limits<std::size_t>::max());
  }

  void run(const void* input, std::size_t count, float* out, float* residuals) const override {
    std::vector<std::int64_t> shape = shape_;
    shape[0] = static_cast<std::int64_t>(count);
    const auto tensor = make(api_.tensor_free, [&](ov_tensor** made) {
      return api_.tensor_create_from_host_ptr(  // it reads what it takes as mutable
          input_type_, {static_cast<std::int64_t>(shape.size()), shape.data()},
          const_cast<void*>(input), made);
    });
    std::size_t bytes = 0;
    check(api_.tensor_get_byte_size(tensor.get(), &bytes));
    if (bytes != count * image_bytes_)
      throw Error(ErrorKind::runtime, name_ + ": the input is not of the type in bundle.json");
    const Borrowed request(*this);
    check(api_.infer_request_set_input_tensor(request.get(), tensor.get()));
    check(api_.infer_request_infer(request.get()));
    copy_out(request.get(), output_names[0], count * dim_, out);
    if (residuals != nullptr) copy_out(request.get(), output_names[1], count, residuals);
  }

 private:
  // A request that no other thread has; made where all are taken.
  class Borrowed {
   public:
    explicit Borrowed(const OpenVinoBackend& owner)
        : owner_(owner), request_(nullptr, owner.api_.infer_request_free) {
      const std::lock_guard<std::mutex> lock(owner.mutex_);
      if (owner.idle_.empty()) {
        request_ = owner.make(owner.api_.infer_request_free, [&](ov_infer_request** made) {
          return owner.api_.compiled_model_create_infer_request(owner.compiled_.get(), made);
        });
        owner.idle_.reserve(++owner.requests_);  // so that giving it back cannot fail
      } else {
        request_ = std::move(owner.idle_.back());
        owner.idle_.pop_back();
      }
    }
    Borrowed(const Borrowed&) = delete;
    Borrowed& operator=(const Borrowed&) = delete;
    ~Borrowed() {
      const std::lock_guard<std::mutex> lock(owner_.mutex_);
      owner_.idle_.push_back(std::move(request_));
    }
    ov_infer_request* get() const { return request_.get(); }

   private:
    const OpenVinoBackend& owner_;
    Owned<ov_infer_request> request_;
  };

  // The precision that the bundle asks for, or the file's own if the processor has it.
  const Precision* chosen_precision() const {
    char* listed = nullptr;
    check(api_.core_get_property(core_.get(), device_name, "OPTIMIZATION_CAPABILITIES", &listed));
    std::istringstream words(listed);
    api_.free(listed);
    std::vector<std::string> able;
    for (std::string word; words >> word;) able.push_back(word);
    const auto has = [&](const Precision& one) {
      return std::find(able.begin(), able.end(), one.capability) != able.end();
    };
    if (artifact_.computes.empty()) {
      const Precision* own = precision_named(artifact_.precision);
      return own != nullptr && has(*own) ? own : &precisions[0];
    }
    const Precision* asked = precision_named(artifact_.computes);
    if (asked == nullptr || !has(*asked))
      throw Error(ErrorKind::missing, artifact_.file + " must be computed in " +
                                          artifact_.computes + ", which this processor has not");
    return asked;
  }

  void describe(const ov_model& model) {
    const auto input = make(api_.output_const_port_free, [&](ov_output_const_port** made) {
      return api_.model_const_input(&model, made);
    });
    check(api_.port_get_element_type(input.get(), &input_type_));
    std::size_t count = 0;
    check(api_.model_outputs_size(&model, &count));
    for (std::size_t i = 0; i < count; ++i) {
      const auto output = make(api_.output_const_port_free, [&](ov_output_const_port** made) {
        return api_.model_const_output_by_index(&model, i, made);
      });
      char* name = nullptr;
      check(api_.port_get_any_name(output.get(), &name));
      has_residual_ = has_residual_ || std::string(output_names[1]) == name;
      api_.free(name);
    }
  }

  void compile(const ov_model& model, const Options& options) {
    const std::string threads = std::to_string(options.threads);
    const std::string requests = std::to_string(options.requests);
    // Pinned threads of two Embedders, or of two processes, would share the same cores.
    std::vector<const char*> words = {"INFERENCE_PRECISION_HINT", precision_->hint,
                                      "ENABLE_CPU_PINNING", "NO",
                                      "NUM_STREAMS", requests.c_str()};
    compiled_ = make(api_.compiled_model_free, [&](ov_compiled_model** made) {
      if (options.threads > 0)
        return api_.core_compile_model(core_.get(), &model, device_name, words.size() + 2, made,
                                       words[0], words[1], words[2], words[3], words[4], words[5],
                                       "INFERENCE_NUM_THREADS", threads.c_str());
      return api_.core_compile_model(core_.get(), &model, device_name, words.size(), made, words[0],
                                     words[1], words[2], words[3], words[4], words[5]);
    });
  }

  void copy_out(ov_infer_request* request, const char* name, std::size_t wanted, float* out) const {
    const auto tensor = make(api_.tensor_free, [&](ov_tensor** made) {
      return api_.infer_request_get_tensor(request, name, made);
    });
    std::size_t count = 0, bytes = 0;
    void* data = nullptr;
    check(api_.tensor_get_size(tensor.get(), &count));
    check(api_.tensor_get_byte_size(tensor.get(), &bytes));
    check(api_.tensor_data(tensor.get(), &data));
    // A bundle's outputs are float32, or float16 beside an input of float16.
    copy_output({data, count, count == 0 ? 0 : bytes / count}, wanted, name_, out);
  }

  void check(OpenVinoApi::Status status) const {
    if (status == 0) return;
    const char* last = api_.get_last_err_msg();
    const std::string message = last == nullptr ? "" : last;
    api_.free(last);
    if (message.find("GeneralizedSumPooling") != std::string::npos)
      throw Error(ErrorKind::missing,
                  name_ + ": OpenVINO has no operator for the pooling as one node; export it with "
                          "--pooling unrolled");
    throw Error(ErrorKind::runtime, name_ + ": OpenVINO: " + reason_in(message));
  }

  // The lines of a message that say something: the others name places in OpenVINO's source.
  static std::string reason_in(const std::string& message) {
    std::istringstream lines(message);
    std::string reason;
    for (std::string line; std::getline(lines, line);) {
      const bool noise = line.empty() || line.rfind("Exception from", 0) == 0 ||
                         line.rfind("Check '", 0) == 0 || line.rfind("FrontEnd API", 0) == 0;
      if (!noise) reason += (reason.empty() ? "" : " ") + line;
    }
    return reason.empty() ? "failed without a reason" : reason;
  }

  template <typename T, typename Create>
  Owned<T> make(void (*release)(T*), Create create) const {
    T* made = nullptr;
    check(create(&made));
    return Owned<T>(made, release);
  }

  const OpenVinoApi& api_;
  std::string name_;
  Artifact artifact_;
  std::size_t dim_;
  std::size_t image_bytes_;
  std::vector<std::int64_t> shape_;
  const Precision* precision_ = nullptr;
  OpenVinoApi::ElementType input_type_ = 0;
  bool has_residual_ = false;
  Owned<ov_core> core_;  // outlives what it compiled
  Owned<ov_compiled_model> compiled_;
  mutable std::mutex mutex_;
  mutable std::size_t requests_ = 0;
  mutable std::vector<Owned<ov_infer_request>> idle_;
};

}  // namespace

std::unique_ptr<InferenceBackend> open_openvino(const Bundle& bundle, const Artifact& artifact,
                                                const Options& options) {
  return std::make_unique<OpenVinoBackend>(bundle, artifact, options);
}

}  // namespace gsp
