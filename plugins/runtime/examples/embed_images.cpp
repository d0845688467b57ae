// Embed image files into a .npy, or check that a bundle works on this machine.
//
//   embed_images BUNDLE -o OUT.npy FILE...
//   embed_images BUNDLE --selftest
#include <cstdio>
#include <gsp/npy.hpp>
#include <gsp/selftest.hpp>

#include "arguments.hpp"

namespace {

void show(const gsp::Info& info) {
  std::printf("%s %s: %s on %s, %zu-D\n", info.model.c_str(), info.precision.c_str(),
              info.runtime.c_str(), info.device.c_str(), info.embedding_dim);
  if (!info.fallback.empty())
    std::printf("fallback to %s: %s\n", info.artifact.c_str(), info.fallback.c_str());
}

void selftest(const example::Arguments& given) {
  const gsp::SelfTest result = gsp::self_test(given.plain[0], given.options);
  show(result.info);
  std::printf("%d golden images: worst cosine distance %.1e (allowed %.0e), pixels off by %d\n",
              result.images, result.worst_cosine_distance, result.allowed_cosine_distance,
              result.worst_pixel_error);
}

void embed(const example::Arguments& given) {
  if (given.output.empty() || given.plain.size() < 2)
    throw gsp::Error(gsp::ErrorKind::usage, "expected BUNDLE -o OUT.npy FILE...");
  const auto embedder = gsp::Embedder::open(given.plain[0], given.options);
  std::vector<float> all, embeddings;
  std::vector<gsp::Image> images;
  for (std::size_t i = 1; i < given.plain.size(); ++i) {
    images.push_back(gsp::decode_image(given.plain[i]));
    if (images.size() < given.options.max_batch && i + 1 < given.plain.size()) continue;
    embedder.embed(images, embeddings);
    all.insert(all.end(), embeddings.begin(), embeddings.end());
    images.clear();
  }
  gsp::write_npy(given.output, all.data(), given.plain.size() - 1, embedder.info().embedding_dim);
  show(embedder.info());
  std::printf("%s: %zu images\n", given.output.c_str(), given.plain.size() - 1);
}

}  // namespace

int main(int argc, char** argv) {
  return example::guarded(
      argc, argv, "BUNDLE -o OUT.npy FILE..., or BUNDLE --selftest",
      [](const example::Arguments& given) { given.selftest ? selftest(given) : embed(given); });
}
