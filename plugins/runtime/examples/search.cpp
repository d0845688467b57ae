// The nearest images of a gallery, which `embed_images` or `gsp-deploy embed` wrote.
//
//   search BUNDLE GALLERY.npy QUERY... [--count 5]
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <fstream>
#include <gsp/npy.hpp>
#include <numeric>

#include "arguments.hpp"

namespace {

// The gallery's file names, one a line beside it in NAME.ids.txt; row numbers where there is none.
std::vector<std::string> names_of(const std::filesystem::path& gallery, std::size_t rows) {
  std::vector<std::string> names;
  std::ifstream stream(std::filesystem::path(gallery).replace_extension(".ids.txt"));
  for (std::string line; std::getline(stream, line);) names.push_back(line);
  if (!names.empty() && names.size() != rows)
    throw gsp::Error(gsp::ErrorKind::usage,
                     gallery.string() + " and its ids do not belong together");
  for (std::size_t i = names.size(); i < rows; ++i) names.push_back("row " + std::to_string(i));
  return names;
}

float cosine(const float* a, const float* b, std::size_t dim) {
  float ab = 0, aa = 0, bb = 0;
  for (std::size_t i = 0; i < dim; ++i) ab += a[i] * b[i], aa += a[i] * a[i], bb += b[i] * b[i];
  return ab / std::sqrt(std::max(aa * bb, 1e-30f));
}

void search(const example::Arguments& given) {
  if (given.plain.size() < 3)
    throw gsp::Error(gsp::ErrorKind::usage, "expected BUNDLE GALLERY.npy QUERY...");
  const auto embedder = gsp::Embedder::open(given.plain[0], given.options);
  const auto gallery = gsp::read_npy_float32(given.plain[1]);
  const std::size_t dim = embedder.info().embedding_dim;
  if (gallery.shape.size() != 2 || gallery.shape[1] != dim)
    throw gsp::Error(
        gsp::ErrorKind::usage,
        given.plain[1] + " does not hold embeddings of this model's length " + std::to_string(dim));
  const std::size_t rows = gallery.shape[0];
  const auto names = names_of(given.plain[1], rows);
  for (std::size_t q = 2; q < given.plain.size(); ++q) {
    std::vector<float> query, scores(rows);
    embedder.embed({gsp::decode_image(given.plain[q])}, query);
    for (std::size_t i = 0; i < rows; ++i)
      scores[i] = cosine(query.data(), &gallery.values[i * dim], dim);
    std::vector<std::size_t> order(rows);
    std::iota(order.begin(), order.end(), std::size_t{0});
    const std::size_t shown = std::min<std::size_t>(rows, static_cast<std::size_t>(given.count));
    std::partial_sort(order.begin(), order.begin() + static_cast<std::ptrdiff_t>(shown),
                      order.end(),
                      [&](std::size_t a, std::size_t b) { return scores[a] > scores[b]; });
    std::printf("%s\n", given.plain[q].c_str());
    for (std::size_t i = 0; i < shown; ++i)
      std::printf("  %.4f  %s\n", static_cast<double>(scores[order[i]]), names[order[i]].c_str());
  }
}

}  // namespace

int main(int argc, char** argv) {
  return example::guarded(argc, argv, "BUNDLE GALLERY.npy QUERY...", search);
}
