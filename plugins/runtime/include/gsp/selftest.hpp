// Does a bundle work on this machine as it did where it was packaged?
#pragma once

#include <filesystem>
#include <gsp/embedder.hpp>
#include <string>

namespace gsp {

struct SelfTest {
  Info info;
  int images = 0;
  double worst_cosine_distance = 0;  // to the golden embeddings
  double allowed_cosine_distance = 0;
  int worst_pixel_error = 0;  // golden photograph, decoded and fitted here, in steps of 255
};

// Check hashes, versions, device, pre-processing and the golden embeddings.
// Throws Error: mismatch when something does not fit, otherwise as Embedder::open.
GSP_API SelfTest self_test(const std::filesystem::path& bundle, const Options& options = {});

}  // namespace gsp
