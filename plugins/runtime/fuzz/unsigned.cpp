// Any bytes are a model that can be rewritten, or are left alone.
#include "unsigned.hpp"

#include <cstdint>

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (const auto found = gsp::unsign({reinterpret_cast<const char*>(data), size}))
    gsp::unsign(*found);
  return 0;
}
