// Any text is JSON or an Error.
#include "json.hpp"

#include <cstdint>
#include <gsp/error.hpp>

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  try {
    const gsp::Json json =
        gsp::Json::parse({reinterpret_cast<const char*>(data), size}, "fuzzed");
    if (const gsp::Json* found = json.find("a")) found->integer();
    json.at("b").array();
  } catch (const gsp::Error&) {
  }
  return 0;
}
