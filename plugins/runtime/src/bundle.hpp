// What bundle.json says, and the files around it.
#pragma once

#include <cstddef>
#include <filesystem>
#include <gsp/image.hpp>
#include <optional>
#include <string>
#include <vector>

namespace gsp {

enum class Runtime { onnxruntime, openvino, tensorrt, tensorrt_rtx };
enum class HardwareCompatibility { none, ampere_and_later, same_capability };
enum class ElementType { uint8, float16, float32 };

// One form of the model.
struct Artifact {
  Runtime runtime;
  std::string file;
  std::string precision;
  std::string input_name;
  ElementType input_type;
  std::optional<std::size_t> fixed_batch;
  double max_cosine_distance;  // to the golden embeddings

  // With OpenVINO: the precision that it must compute floats in; may be empty.
  std::string computes;

  // Of engines only.
  std::string tensorrt;  // the version that built it
  std::string platform;  // such as linux aarch64
  std::vector<std::string> compute_capabilities;
  HardwareCompatibility hardware_compatibility = HardwareCompatibility::none;
  bool version_compatible = false;
  bool lean = false;     // version compatible, and without the runtime of its version inside
  std::string plugin;  // file within the bundle that must be loaded first; may be empty

  // Whether loading the engine runs code that it carries.
  bool needs_host_code() const { return version_compatible && !lean; }
};

struct Bundle {
  std::filesystem::path folder;
  std::string model;
  std::size_t embedding_dim;
  Preprocessing preprocessing;
  std::vector<Artifact> artifacts;  // the first is the one that is meant, the others fall back
  std::string golden_images, golden_embeddings, golden_photograph;

  std::filesystem::path path(const std::string& name) const { return folder / name; }
};

// Read bundle.json. Throws Error(bundle).
Bundle read_bundle(const std::filesystem::path& folder);

// Compare every file with SHA256SUMS; files that are not listed, links and names that lead out of
// the folder are refused. Throws Error(mismatch), or Error(bundle) where there is no SHA256SUMS.
void check_hashes(const std::filesystem::path& folder);

}  // namespace gsp
