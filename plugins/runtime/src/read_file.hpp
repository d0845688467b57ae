// A whole file in memory.
#pragma once

#include <cstdint>
#include <filesystem>
#include <gsp/error.hpp>
#include <string>

namespace gsp {

// Throws an Error of this kind, "FILE: cannot be read", with the hint after it; or one that says
// that the file has more than `most` bytes, before any of them is read.
std::string read_file(const std::filesystem::path& file, ErrorKind kind, std::uintmax_t most,
                      const char* hint = "");

}  // namespace gsp
