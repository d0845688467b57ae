// Signed int8 activations as uint8, which x86-64 processors multiply by int8 weights faster.
#pragma once

#include <optional>
#include <string>

namespace gsp {

// The model with uint8 activations: the same numbers in a faster form. Nothing if it has no signed
// ones, or does not fit the rules as a whole; gsp_deploy/artifact/unsigned.py states them.
std::optional<std::string> unsign(const std::string& model);

}  // namespace gsp
