#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <gsp/npy.hpp>
#include <gsp/selftest.hpp>
#include <sstream>

#include "bundle.hpp"
#include "guarded.hpp"

namespace gsp {
namespace {

constexpr int allowed_pixel_error = 1;

double cosine_distance(const float* a, const float* b, std::size_t dim) {
  double ab = 0, aa = 0, bb = 0;
  for (std::size_t i = 0; i < dim; ++i) {
    ab += static_cast<double>(a[i]) * b[i];
    aa += static_cast<double>(a[i]) * a[i];
    bb += static_cast<double>(b[i]) * b[i];
  }
  return 1 - ab / std::sqrt(aa * bb);  // NaN, which passes no gate, where one of them is zero
}

[[noreturn]] void mismatch(const std::string& what, double found, double allowed) {
  std::ostringstream text;
  text.precision(2);
  text << what << ": " << found << ", allowed is " << allowed;
  throw Error(ErrorKind::mismatch, text.str());
}

int worst_pixel_error(const Bundle& bundle, const Array<std::uint8_t>& images) {
  const Image fitted =
      fit_image(decode_image(bundle.path(bundle.golden_photograph)), bundle.preprocessing);
  int worst = 0;
  for (std::size_t i = 0; i < fitted.pixels.size(); ++i)
    worst = std::max(worst, std::abs(int{fitted.pixels[i]} - int{images.values[i]}));
  return worst;
}

}  // namespace

namespace {

SelfTest tested(const std::filesystem::path& folder, const Options& options) {
  const Embedder embedder = Embedder::open(folder, options);
  const Bundle bundle = read_bundle(folder);
  const auto images = read_npy_uint8(bundle.path(bundle.golden_images));
  const auto golden = read_npy_float32(bundle.path(bundle.golden_embeddings));
  const auto height = static_cast<std::size_t>(bundle.preprocessing.height);
  const auto width = static_cast<std::size_t>(bundle.preprocessing.width);
  const std::size_t count = images.shape.empty() ? 0 : images.shape[0];
  if (count == 0 || images.shape != std::vector<std::size_t>{count, height, width, 3} ||
      golden.shape != std::vector<std::size_t>{count, bundle.embedding_dim})
    throw Error(ErrorKind::bundle, "the golden arrays do not have the model's shapes");

  SelfTest result;
  result.info = embedder.info();
  result.images = static_cast<int>(count);
  result.worst_pixel_error = worst_pixel_error(bundle, images);
  if (result.worst_pixel_error > allowed_pixel_error)
    mismatch("pre-processing of the golden photograph is off by", result.worst_pixel_error,
             allowed_pixel_error);

  result.allowed_cosine_distance = result.info.allowed_cosine_distance;
  std::vector<float> found(golden.values.size());
  embedder.embed_pixels(images.values.data(), count, found.data());
  for (std::size_t i = 0; i < count; ++i) {
    const std::size_t at = i * bundle.embedding_dim;
    const double distance = cosine_distance(&found[at], &golden.values[at], bundle.embedding_dim);
    if (!(distance <= result.allowed_cosine_distance))
      mismatch("golden embedding " + std::to_string(i) + " is off by a cosine distance of",
               distance, result.allowed_cosine_distance);
    result.worst_cosine_distance = std::max(result.worst_cosine_distance, distance);
  }
  return result;
}

}  // namespace

SelfTest self_test(const std::filesystem::path& folder, const Options& options) {
  return guarded(ErrorKind::bundle, [&] { return tested(folder, options); });
}

}  // namespace gsp
