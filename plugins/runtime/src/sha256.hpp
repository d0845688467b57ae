// SHA-256 (FIPS 180-4), for SHA256SUMS.
#pragma once

#include <filesystem>
#include <string>

namespace gsp {

// Hexadecimal, as sha256sum prints it. Throws Error(bundle) when the file cannot be read.
std::string sha256_of(const std::filesystem::path& file);

}  // namespace gsp
