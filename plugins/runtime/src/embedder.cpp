#include <algorithm>
#include <cmath>
#include <cstring>
#include <gsp/embedder.hpp>

#include "backend.hpp"
#include "guarded.hpp"
#include "half.hpp"

namespace gsp {
namespace {

// One channel: normalised = pixel * scale + shift, in float32 as in Python.
struct Affine {
  float scale, shift;
};

std::array<Affine, 3> affine_of(const Preprocessing& spec) {
  std::array<Affine, 3> made;
  for (std::size_t c = 0; c < 3; ++c)
    made[c] = {static_cast<float>(1 / (255 * spec.std[c])),
               static_cast<float>(-spec.mean[c] / spec.std[c])};
  return made;
}

// Write (3, area) normalised values of (area, 3) pixels.
template <typename T, typename Convert>
void normalise(const std::uint8_t* pixels, std::size_t area, const std::array<Affine, 3>& by,
               T* out, Convert convert) {
  for (std::size_t c = 0; c < 3; ++c)
    for (std::size_t i = 0; i < area; ++i)
      out[c * area + i] =
          convert(static_cast<float>(pixels[i * 3 + c]) * by[c].scale + by[c].shift);
}

std::unique_ptr<InferenceBackend> open_backend(const Bundle& bundle, const Artifact& artifact,
                                               const Options& options) {
  switch (artifact.runtime) {
    case Runtime::onnxruntime: return open_onnxruntime(bundle, artifact, options);
    case Runtime::openvino: return open_openvino(bundle, artifact, options);
    case Runtime::tensorrt: return open_tensorrt(bundle, artifact, options);
    default:
      throw Error(ErrorKind::missing, artifact.file +
                                          " is an engine of TensorRT for RTX, which this "
                                          "library does not run");
  }
}

// The artifacts to try, in order: all, or those that the backend asked for can run.
std::vector<Artifact> wanted(const Bundle& bundle, Backend backend) {
  std::vector<Artifact> found;
  for (const Artifact& artifact : bundle.artifacts) {
    const Runtime runtime = artifact.runtime;
    const bool is_engine = runtime == Runtime::tensorrt || runtime == Runtime::tensorrt_rtx;
    if (backend == Backend::automatic ||
        (backend == Backend::onnxruntime && runtime == Runtime::onnxruntime) ||
        (backend == Backend::openvino && runtime == Runtime::openvino) ||
        (backend == Backend::tensorrt && is_engine))
      found.push_back(artifact);
  }
  if (backend != Backend::openvino || !found.empty()) return found;
  for (const Artifact& artifact : bundle.artifacts) {  // every bundle has an ONNX model
    if (artifact.runtime != Runtime::onnxruntime) continue;
    found.push_back(artifact);
    found.back().runtime = Runtime::openvino;
  }
  return found;
}

}  // namespace

struct Embedder::State {
  static std::unique_ptr<State> open(const std::filesystem::path& folder, const Options& options);

  void embed_pixels(const std::uint8_t* pixels, std::size_t count, float* out,
                    float* residuals) const;
  void embed_normalised(const float* inputs, std::size_t count, float* out) const;
  void embed_device(const void* input, std::size_t count, float* out, void* stream) const;

  Bundle bundle;
  Artifact artifact;
  std::unique_ptr<InferenceBackend> backend;
  Info info;
  std::array<Affine, 3> affine;
  std::size_t area = 0;         // pixels of one image
  std::size_t image_bytes = 0;  // of one image in the graph's element type
  std::size_t chunk = 0;        // images of one run

  // Run any number of inputs that `fill(first, count, to)` writes in the graph's element type.
  template <typename Fill>
  void run(std::size_t count, float* out, float* residuals, Fill fill) const {
    if (residuals != nullptr && !info.has_residual)
      throw Error(ErrorKind::usage, artifact.file +
                                        " has no output residual; export the model with --also "
                                        "residual and package it again");
    const std::size_t least = backend->min_batch();  // a shorter batch is filled up to it
    std::vector<std::uint8_t> input(image_bytes * std::max(least, std::min(chunk, count)));
    std::vector<float> padded(least * info.embedding_dim);
    std::vector<float> padded_residuals(residuals == nullptr ? 0 : least);
    for (std::size_t first = 0; first < count; first += chunk) {
      const std::size_t now = std::min(chunk, count - first);
      fill(first, now, input.data());
      float* to = out + first * info.embedding_dim;
      if (now >= least) {
        backend->run(input.data(), now, to, residuals == nullptr ? nullptr : residuals + first);
      } else {
        std::fill(input.begin() + static_cast<std::ptrdiff_t>(now * image_bytes), input.end(),
                  std::uint8_t{0});
        backend->run(input.data(), least, padded.data(),
                     residuals == nullptr ? nullptr : padded_residuals.data());
        std::copy_n(padded.begin(), now * info.embedding_dim, to);
        if (residuals != nullptr) std::copy_n(padded_residuals.begin(), now, residuals + first);
      }
    }
  }

  void embed_images(const std::vector<Image>& images, float* out, float* residuals) const {
    run(images.size(), out, residuals,
        [&](std::size_t first, std::size_t now, std::uint8_t* to) {
          for (std::size_t i = 0; i < now; ++i)
            prepare(fit_image(images[first + i], info.preprocessing).pixels.data(),
                    to + i * image_bytes);
        });
  }

  // One image of the model's size, into the graph's element type.
  void prepare(const std::uint8_t* pixels, std::uint8_t* to) const {
    switch (artifact.input_type) {
      case ElementType::uint8: std::memcpy(to, pixels, image_bytes); break;
      case ElementType::float16:
        normalise(pixels, area, affine, reinterpret_cast<std::uint16_t*>(to), to_half);
        break;
      case ElementType::float32:
        normalise(pixels, area, affine, reinterpret_cast<float*>(to), [](float v) { return v; });
    }
  }
};

Embedder::Embedder(std::unique_ptr<State> state) noexcept : state_(std::move(state)) {}
Embedder::Embedder(Embedder&&) noexcept = default;
Embedder& Embedder::operator=(Embedder&&) noexcept = default;
Embedder::~Embedder() = default;

const Info& Embedder::info() const noexcept { return state_->info; }

namespace {

void check_pointers(const void* input, std::size_t count, const float* out) {
  if (count != 0 && (input == nullptr || out == nullptr))
    throw Error(ErrorKind::usage, "expected inputs and room for embeddings, got a null pointer");
}

void check(const Options& options) {
  if (options.max_batch < 1 || options.contexts < 1 || options.requests < 1 ||
      options.threads < 0 || options.device < 0)
    throw Error(ErrorKind::usage,
                "max_batch, contexts and requests must be at least 1, threads and device 0");
}

}  // namespace

Embedder Embedder::open(const std::filesystem::path& folder, const Options& options) {
  return guarded(ErrorKind::bundle, [&] { return Embedder(State::open(folder, options)); });
}

std::unique_ptr<Embedder::State> Embedder::State::open(const std::filesystem::path& folder,
                                                       const Options& options) {
  check(options);
  auto state = std::make_unique<State>();
  state->bundle = read_bundle(folder);
  if (options.verify_hashes) check_hashes(folder);
  std::string unfit;
  const std::vector<Artifact> artifacts = wanted(state->bundle, options.backend);
  for (const Artifact& artifact : artifacts) {
    try {
      state->backend = open_backend(state->bundle, artifact, options);
      state->artifact = artifact;
      break;
    } catch (const Error& error) {
      if (error.kind() != ErrorKind::missing) throw;
      if (!options.allow_fallback) {
        const bool more = &artifact != &artifacts.back();
        throw Error(ErrorKind::missing,
                    error.what() + std::string(more ? "; the bundle has another form, which is "
                                                      "taken when fallback is allowed"
                                                    : ""));
      }
      unfit = error.what();
    }
  }
  if (!state->backend)
    throw Error(ErrorKind::missing,
                !unfit.empty() ? unfit : "the bundle has no artifact of the backend asked for");

  const Preprocessing& spec = state->bundle.preprocessing;
  state->affine = affine_of(spec);
  state->area = static_cast<std::size_t>(spec.height) * static_cast<std::size_t>(spec.width);
  state->image_bytes = input_bytes(state->bundle, state->artifact);
  state->chunk = std::max(state->backend->min_batch(),
                          std::min(options.max_batch, state->backend->max_batch()));
  state->info = {state->bundle.model,
                 state->artifact.file,
                 state->backend->runtime(),
                 state->backend->device(),
                 state->artifact.precision,
                 state->bundle.embedding_dim,
                 state->artifact.input_type == ElementType::uint8,
                 state->backend->has_residual(),
                 unfit,
                 spec};
  state->info.allowed_cosine_distance = state->artifact.max_cosine_distance;
  return state;
}

void Embedder::embed(const std::vector<Image>& images, std::vector<float>& out) const {
  guarded(ErrorKind::runtime, [&] {
    std::vector<float> found(images.size() * state_->info.embedding_dim);
    state_->embed_images(images, found.data(), nullptr);
    out = std::move(found);
  });
}

void Embedder::embed(const std::vector<Image>& images, std::vector<float>& out,
                     std::vector<float>& residuals) const {
  guarded(ErrorKind::runtime, [&] {
    std::vector<float> found(images.size() * state_->info.embedding_dim), errors(images.size());
    // Of no images data() may be null, which would ask for no residuals.
    if (errors.empty()) errors.reserve(1);
    state_->embed_images(images, found.data(), errors.data());
    out = std::move(found);
    residuals = std::move(errors);
  });
}

void Embedder::embed_pixels(const std::uint8_t* pixels, std::size_t count, float* out) const {
  embed_pixels(pixels, count, out, nullptr);
}

void Embedder::embed_pixels(const std::uint8_t* pixels, std::size_t count, float* out,
                            float* residuals) const {
  guarded(ErrorKind::runtime, [&] { state_->embed_pixels(pixels, count, out, residuals); });
}

void Embedder::embed_normalised(const float* inputs, std::size_t count, float* out) const {
  guarded(ErrorKind::runtime, [&] { state_->embed_normalised(inputs, count, out); });
}

void Embedder::embed_device(const void* input, std::size_t count, float* out, void* stream) const {
  guarded(ErrorKind::runtime, [&] { state_->embed_device(input, count, out, stream); });
}

void Embedder::State::embed_pixels(const std::uint8_t* pixels, std::size_t count, float* out,
                                   float* residuals) const {
  check_pointers(pixels, count, out);
  run(count, out, residuals, [&](std::size_t first, std::size_t now, std::uint8_t* to) {
    for (std::size_t i = 0; i < now; ++i)
      prepare(pixels + (first + i) * area * 3, to + i * image_bytes);
  });
}

void Embedder::State::embed_normalised(const float* inputs, std::size_t count, float* out) const {
  if (info.takes_pixels)
    throw Error(ErrorKind::usage,
                "this model takes pixels and normalises them itself; use embed_pixels");
  check_pointers(inputs, count, out);
  const std::size_t size = area * 3;
  if (!std::all_of(inputs, inputs + count * size, [](float v) { return std::isfinite(v); }))
    throw Error(ErrorKind::usage,
                "the inputs hold NaN or infinity; check how they were normalised");
  run(count, out, nullptr, [&](std::size_t first, std::size_t now, std::uint8_t* to) {
    const float* from = inputs + first * size;
    if (artifact.input_type == ElementType::float32) {
      std::memcpy(to, from, now * size * sizeof(float));
    } else {
      std::transform(from, from + now * size, reinterpret_cast<std::uint16_t*>(to), to_half);
    }
  });
}

void Embedder::State::embed_device(const void* input, std::size_t count, float* out,
                                   void* stream) const {
  const std::size_t least = backend->min_batch(), rest = count % chunk;
  if (rest != 0 && rest < least)
    throw Error(ErrorKind::usage, "this engine takes batches of " + std::to_string(least) + " to " +
                                      std::to_string(chunk) + " images, and " +
                                      std::to_string(rest) +
                                      " would be left; pad the input on the GPU");
  for (std::size_t first = 0; first < count; first += chunk)
    backend->run_on_device(static_cast<const std::uint8_t*>(input) + first * image_bytes,
                           std::min(chunk, count - first), out + first * info.embedding_dim,
                           stream);
}

}  // namespace gsp
