// A whole file in memory.
#pragma once

#include <filesystem>
#include <gsp/error.hpp>
#include <string>

namespace gsp {

// Throws an Error of this kind, "FILE: cannot be read", with the hint after it.
std::string read_file(const std::filesystem::path& file, ErrorKind kind, const char* hint = "");

}  // namespace gsp
