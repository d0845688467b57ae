// Unpacking what zlib packed, into memory of a size that is known before.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace gsp {

enum class Packing { zlib, deflate };  // with zlib's frame, or without

// The first `most` bytes of what is packed, or all where it is less; nothing where it is damaged.
// `more` says whether packed bytes were left over when there was no room left.
std::optional<std::vector<std::uint8_t>> unpacked(std::string_view packed, Packing packing,
                                                  std::size_t most, bool& more);

}  // namespace gsp
