// numpy's .npy files: what the golden vectors of a bundle and the examples are written in.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <gsp/api.hpp>
#include <vector>

namespace gsp {

template <typename T>
struct Array {
  std::vector<std::size_t> shape;
  std::vector<T> values;  // C order
};

// Read a C-ordered array of exactly this element type. Throws Error(bundle).
GSP_API Array<float> read_npy_float32(const std::filesystem::path& file);
GSP_API Array<std::uint8_t> read_npy_uint8(const std::filesystem::path& file);

// Write (rows, columns) float32, whole or not at all. Throws Error: usage, runtime.
GSP_API void write_npy(const std::filesystem::path& file, const float* values, std::size_t rows,
                       std::size_t columns);

}  // namespace gsp
