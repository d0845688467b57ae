// Any bundle.json and SHA256SUMS, with a zero byte between them, are a bundle or an Error.
#include "bundle.hpp"

#include <algorithm>
#include <gsp/error.hpp>

#include "guarded.hpp"
#include "memory_file.hpp"

namespace {

namespace fs = std::filesystem;

// One folder for each process, which is removed at its end.
struct Folder {
  fs::path path;
  Folder() {
    std::string name = (fs::temp_directory_path() / "fuzzed-XXXXXX").string();
    if (mkdtemp(name.data()) == nullptr) std::abort();
    path = name;
    std::ofstream(path / "model.onnx") << "abc";
  }
  ~Folder() {
    std::error_code failed;
    fs::remove_all(path, failed);
  }
};

template <typename Read>
void check(Read read) {
  try {
    gsp::guarded(gsp::ErrorKind::bundle, read);  // as Embedder::open does
  } catch (const gsp::Error&) {
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static const Folder folder;
  const std::string text(reinterpret_cast<const char*>(data), size);
  const std::size_t end = std::min(text.find('\0'), text.size());
  std::ofstream(folder.path / "bundle.json", std::ios::binary) << text.substr(0, end);
  std::ofstream(folder.path / "SHA256SUMS", std::ios::binary)
      << text.substr(std::min(end + 1, text.size()));
  check([&] { gsp::read_bundle(folder.path); });
  check([&] { gsp::check_hashes(folder.path); });
  return 0;
}
