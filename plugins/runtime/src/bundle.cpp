#include "bundle.hpp"

#include <algorithm>
#include <gsp/error.hpp>
#include <set>

#include "json.hpp"
#include "read_file.hpp"
#include "sha256.hpp"

namespace gsp {
namespace {

namespace fs = std::filesystem;

constexpr int format_version = 1;
constexpr const char* manifest_name = "bundle.json";
constexpr const char* sums_name = "SHA256SUMS";
constexpr std::size_t hash_length = 64;
constexpr std::uintmax_t most_text = 1 << 24;  // bytes of a manifest or of SHA256SUMS
constexpr long long most_images = 1 << 16;  // of one batch: sizes in bytes stay far below 64 bits

[[noreturn]] void fail(const fs::path& where, const std::string& what) {
  throw Error(ErrorKind::bundle, where.string() + ": " + what);
}

// A regular file, or a link to one that has contents: what the system makes up while it is read,
// as below /proc, is a regular file of no size.
bool is_own_file(const fs::path& file) {
  std::error_code missing;
  if (!fs::is_regular_file(file, missing)) return false;
  return !fs::is_symlink(file, missing) || fs::file_size(file, missing) > 0;
}

std::string read_text(const fs::path& file) {
  if (!is_own_file(file)) fail(file, "cannot be read; is this a bundle?");
  return read_file(file, ErrorKind::bundle, most_text, "; is this a bundle?");
}

bool is_plain(char c) { return static_cast<unsigned char>(c) >= ' ' && c != '\\'; }

// Whether a name stays in the folder, whatever a hostile bundle writes.
bool is_inside(const std::string& name) {
  const fs::path path(name);
  return !name.empty() && std::all_of(name.begin(), name.end(), is_plain) && path.is_relative() &&
         std::none_of(path.begin(), path.end(), [](const fs::path& part) {
           return part == ".." || part == "." || part == "";
         });
}

// A file may be a link, as in a download cache; what is below a linked folder nobody has listed.
void refuse_linked_folders(const fs::path& folder, const std::string& name) {
  fs::path step;
  std::error_code unreadable;  // then opening the file fails, and says so
  for (const fs::path& part : fs::path(name))
    if (fs::is_symlink(folder / (step /= part), unreadable) &&
        fs::is_directory(folder / step, unreadable))
      throw Error(ErrorKind::mismatch, step.generic_string() +
                                           " is a link to a folder, which a bundle must not hold");
}

std::string file_name(const fs::path& folder, const Json& value) {
  const std::string& name = value.string();
  if (!is_inside(name)) fail(folder / manifest_name, "names '" + name + "', which leads out of it");
  refuse_linked_folders(folder, name);
  return name;
}

template <typename T>
T one_of(const Json& value, std::initializer_list<std::pair<const char*, T>> known) {
  for (const auto& [word, meaning] : known)
    if (value.string() == word) return meaning;
  throw Error(ErrorKind::bundle,
              "bundle.json: '" + value.string() + "' is not known to this version of gsp_runtime");
}

std::array<double, 3> triple(const Json& value) {
  const auto& items = value.array();
  if (items.size() != 3) throw Error(ErrorKind::bundle, "bundle.json: mean and std have 3 values");
  return {items[0].number(), items[1].number(), items[2].number()};
}

Preprocessing preprocessing_of(const Json& value) {
  Preprocessing spec;
  const auto side = [&value](const char* key) {
    const long long size = value.at(key).integer();
    if (size < 1 || size > 1 << 15)
      throw Error(ErrorKind::bundle, "bundle.json: image size is out of range");
    return static_cast<int>(size);
  };
  spec.height = side("height");
  spec.width = side("width");
  if (std::int64_t{spec.height} * spec.width > max_pixels)
    throw Error(ErrorKind::bundle, "bundle.json: image size is out of range");
  spec.mean = triple(value.at("mean"));
  spec.std = triple(value.at("std"));
  spec.interpolation = one_of<Interpolation>(
      value.at("interpolation"),
      {{"bilinear", Interpolation::bilinear}, {"bicubic", Interpolation::bicubic}});
  spec.resize = one_of<ResizeMode>(value.at("resize"),
                                   {{"crop", ResizeMode::crop}, {"stretch", ResizeMode::stretch}});
  spec.crop_ratio = value.at("crop_ratio").number();
  const Json* pipeline = value.find("pipeline");
  spec.pipeline = pipeline == nullptr
                      ? Pipeline::pillow
                      : one_of<Pipeline>(*pipeline, {{"torchvision", Pipeline::torchvision},
                                                     {"timm", Pipeline::timm},
                                                     {"opencv", Pipeline::opencv},
                                                     {"pillow", Pipeline::pillow}});
  const bool positive =
      std::all_of(spec.std.begin(), spec.std.end(), [](double s) { return s > 0; });
  if (!positive || spec.crop_ratio <= 0 || spec.crop_ratio > 1)
    throw Error(ErrorKind::bundle, "bundle.json: std must be above 0, crop_ratio above 0 and at most 1");
  return spec;
}

void read_engine(const fs::path& folder, const Json& value, Artifact& made) {
  made.tensorrt = value.at("tensorrt").string();
  made.platform = value.at("platform").string();
  for (const Json& capability : value.at("compute_capabilities").array())
    made.compute_capabilities.push_back(capability.string());
  made.hardware_compatibility =
      one_of<HardwareCompatibility>(value.at("hardware_compatibility"),
                                    {{"none", HardwareCompatibility::none},
                                     {"ampere+", HardwareCompatibility::ampere_and_later},
                                     {"same-capability", HardwareCompatibility::same_capability}});
  made.version_compatible = value.at("version_compatible").boolean();
  if (const Json* lean = value.find("lean")) made.lean = lean->boolean();
  if (const Json* plugin = value.find("plugin")) made.plugin = file_name(folder, *plugin);
}

Artifact artifact_of(const fs::path& folder, const Json& value) {
  Artifact made;
  made.runtime = one_of<Runtime>(value.at("runtime"), {{"onnxruntime", Runtime::onnxruntime},
                                                       {"openvino", Runtime::openvino},
                                                       {"tensorrt", Runtime::tensorrt},
                                                       {"tensorrt-rtx", Runtime::tensorrt_rtx}});
  made.file = file_name(folder, value.at("file"));
  made.precision = value.at("precision").string();
  made.max_cosine_distance = value.at("max_cosine_distance").number();
  const Json& input = value.at("input");
  made.input_name = input.at("name").string();
  made.input_type = one_of<ElementType>(input.at("dtype"), {{"uint8", ElementType::uint8},
                                                            {"float16", ElementType::float16},
                                                            {"float32", ElementType::float32}});
  if (const Json* batch = value.find("fixed_batch")) {
    if (batch->integer() < 1 || batch->integer() > most_images)
      throw Error(ErrorKind::bundle, "bundle.json: fixed_batch is out of range");
    made.fixed_batch = static_cast<std::size_t>(batch->integer());
  }
  if (const Json* computes = value.find("computes")) made.computes = computes->string();
  if (made.runtime == Runtime::tensorrt || made.runtime == Runtime::tensorrt_rtx)
    read_engine(folder, value, made);
  return made;
}

}  // namespace

Bundle read_bundle(const fs::path& folder) {
  const fs::path file = folder / manifest_name;
  const Json root = Json::parse(read_text(file), file.string());
  if (root.at("format").integer() != format_version)
    fail(file, "is of format " + std::to_string(root.at("format").integer()) + ", expected " +
                   std::to_string(format_version) + "; package it with a fitting gsp-deploy");
  Bundle bundle;
  bundle.folder = folder;
  bundle.model = root.at("model").string();
  const long long dim = root.at("embedding_dim").integer();
  if (dim < 1 || dim > 1 << 24) fail(file, "embedding_dim is out of range");
  bundle.embedding_dim = static_cast<std::size_t>(dim);
  bundle.preprocessing = preprocessing_of(root.at("preprocessing"));
  for (const Json& value : root.at("artifacts").array())
    bundle.artifacts.push_back(artifact_of(folder, value));
  if (bundle.artifacts.empty()) fail(file, "lists no artifacts");
  const Json& golden = root.at("golden");
  bundle.golden_images = file_name(folder, golden.at("images"));
  bundle.golden_embeddings = file_name(folder, golden.at("embeddings"));
  bundle.golden_photograph = file_name(folder, golden.at("photograph"));
  return bundle;
}

void check_hashes(const fs::path& folder) {
  const std::string text = read_text(folder / sums_name);
  std::set<std::string> listed = {sums_name};
  for (std::size_t start = 0; start < text.size();) {
    const std::size_t end = std::min(text.find('\n', start), text.size());
    const std::string line = text.substr(start, end - start);
    start = end + 1;
    if (line.size() < hash_length + 3 || line.compare(hash_length, 2, "  ") != 0)
      fail(folder / sums_name,
           "expected lines of a hash, two spaces and a name, got '" + line + "'");
    const std::string name = line.substr(hash_length + 2);
    if (!is_inside(name)) fail(folder / sums_name, "names '" + name + "', which leads out of it");
    listed.insert(name);
    refuse_linked_folders(folder, name);
    if (!is_own_file(folder / name))
      throw Error(ErrorKind::mismatch, name + " is missing, or no plain file");
    if (sha256_of(folder / name) != line.substr(0, hash_length))
      throw Error(ErrorKind::mismatch,
                  name + " is not the file that was packaged (SHA-256 differs)");
  }
  for (const auto& entry : fs::recursive_directory_iterator(folder)) {
    const std::string name = entry.path().lexically_relative(folder).generic_string();
    refuse_linked_folders(folder, name);
    std::error_code circular;  // a link that leads nowhere is no folder, and not listed
    if (!entry.is_directory(circular) && listed.count(name) == 0)
      throw Error(ErrorKind::mismatch, name + " is not in SHA256SUMS");
  }
}

}  // namespace gsp
