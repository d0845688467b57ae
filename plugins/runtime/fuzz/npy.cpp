// Any file is an array of the size that it claims, or an Error.
#include <gsp/error.hpp>
#include <gsp/npy.hpp>

#include "memory_file.hpp"

namespace {

template <typename Read>
void check(Read read) {
  try {
    const auto array = read();
    std::size_t count = 1;
    for (const std::size_t extent : array.shape) count *= extent;
    if (count != array.values.size()) std::abort();
  } catch (const gsp::Error&) {
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const fuzz::MemoryFile file(data, size);
  check([&] { return gsp::read_npy_float32(file.path()); });
  check([&] { return gsp::read_npy_uint8(file.path()); });
  return 0;
}
