#include <algorithm>
#include <cstring>
#include <fstream>
#include <gsp/error.hpp>
#include <gsp/npy.hpp>
#include <limits>
#include <string>

#include "guarded.hpp"

namespace gsp {
namespace {

namespace fs = std::filesystem;

constexpr char magic[] = "\x93NUMPY\x01";  // the terminating zero is the minor version
constexpr std::size_t most_dimensions = 32;
constexpr std::size_t preamble = 10;       // magic, version, and the header's length in 2 bytes

[[noreturn]] void fail(const fs::path& file, const std::string& expected) {
  throw Error(ErrorKind::bundle,
              file.string() + ": not the array it should be, expected " + expected);
}

bool is_digit(char c) { return c >= '0' && c <= '9'; }

// The text between a key and the next character of `ends`.
std::string field(const std::string& header, const std::string& key, const char* ends,
                  const fs::path& file) {
  const auto at = header.find("'" + key + "':");
  if (at == header.npos) fail(file, "a header with '" + key + "'");
  const auto start = header.find_first_not_of(' ', at + key.size() + 3);
  const auto end = start == header.npos ? start : header.find_first_of(ends, start);
  if (end == header.npos) fail(file, "a whole header");
  return header.substr(start, end - start);
}

// The sizes of a tuple in Python's words: (), (3,), (2, 3). A sign, or anything else, is refused.
std::vector<std::size_t> shape_of(const std::string& header, const fs::path& file) {
  const char* const expected = "a shape of whole numbers";
  const std::string text = field(header, "shape", ")", file);
  std::size_t at = 0;
  const auto next = [&] {
    while (at < text.size() && text[at] == ' ') ++at;
    return at < text.size() ? text[at] : ')';
  };
  if (next() != '(') fail(file, expected);
  std::vector<std::size_t> shape;
  for (++at; next() != ')';) {
    if (!is_digit(next())) fail(file, expected);
    std::size_t size = 0;
    for (; at < text.size() && is_digit(text[at]); ++at) {
      size = size * 10 + static_cast<std::size_t>(text[at] - '0');
      if (size > std::size_t{1} << 32) fail(file, "smaller sizes");
    }
    shape.push_back(size);
    if (shape.size() > most_dimensions) fail(file, "fewer dimensions");
    if (next() == ',')
      ++at;
    else if (next() != ')')
      fail(file, expected);
  }
  return shape;
}

template <typename T>
Array<T> read_npy(const fs::path& file, const std::string& descr) {
  std::error_code failed;
  std::ifstream stream;
  if (fs::is_regular_file(file, failed))  // a pipe would keep us waiting
    stream.open(file, std::ios::binary);
  if (!stream.is_open()) throw Error(ErrorKind::bundle, file.string() + ": cannot be read");
  unsigned char start[preamble];
  if (!stream.read(reinterpret_cast<char*>(start), preamble) || std::memcmp(start, magic, 8) != 0)
    fail(file, "numpy's format 1.0");
  std::string header(start[8] + start[9] * 256u, '\0');
  if (!stream.read(header.data(), static_cast<std::streamsize>(header.size())))
    fail(file, "a whole header");
  if (field(header, "descr", ",", file) != "'" + descr + "'") fail(file, "elements " + descr);
  if (field(header, "fortran_order", ",", file) != "False") fail(file, "C order");

  Array<T> array{shape_of(header, file), {}};
  const auto data = static_cast<std::uintmax_t>(stream.tellg()), size = fs::file_size(file, failed);
  if (failed || size < data) fail(file, "a whole file");
  std::uintmax_t room = (size - data) / sizeof(T), count = 1;
  for (const std::size_t extent : array.shape) {
    if (extent != 0 && count > room / extent) fail(file, "as many values as its shape says");
    count *= extent;
  }
  array.values.resize(count);
  stream.read(reinterpret_cast<char*>(array.values.data()),
              static_cast<std::streamsize>(count * sizeof(T)));
  if (!stream) fail(file, "as many values as its shape says");
  return array;
}

}  // namespace

Array<float> read_npy_float32(const fs::path& file) {
  return guarded(ErrorKind::bundle, [&] { return read_npy<float>(file, "<f4"); });
}

Array<std::uint8_t> read_npy_uint8(const fs::path& file) {
  return guarded(ErrorKind::bundle, [&] { return read_npy<std::uint8_t>(file, "|u1"); });
}

namespace {

void write_whole(const fs::path& file, const float* values, std::size_t rows,
                 std::size_t columns) {
  if (values == nullptr && rows != 0 && columns != 0)
    throw Error(ErrorKind::usage, file.string() + ": expected values, got a null pointer");
  if (columns != 0 && rows > std::numeric_limits<std::streamsize>::max() / sizeof(float) / columns)
    throw Error(ErrorKind::usage, file.string() + ": expected fewer values than a file holds");
  std::string header = "{'descr': '<f4', 'fortran_order': False, 'shape': (" +
                       std::to_string(rows) + ", " + std::to_string(columns) + "), }";
  header.append(63 - (preamble + header.size()) % 64, ' ') += '\n';  // values start at 64 n bytes
  const auto length = static_cast<unsigned>(header.size());
  fs::path fresh = file;
  fresh += ".part";
  std::ofstream stream(fresh, std::ios::binary);
  stream.write(magic, 8).put(static_cast<char>(length & 255)).put(static_cast<char>(length >> 8));
  stream << header;
  stream.write(reinterpret_cast<const char*>(values),
               static_cast<std::streamsize>(rows * columns * sizeof(float)));
  stream.close();
  std::error_code failed;
  if (stream) fs::rename(fresh, file, failed);
  if (!stream || failed) {
    fs::remove(fresh, failed);
    throw Error(ErrorKind::runtime, file.string() + ": cannot be written");
  }
}

}  // namespace

void write_npy(const fs::path& file, const float* values, std::size_t rows, std::size_t columns) {
  guarded(ErrorKind::runtime, [&] { write_whole(file, values, rows, columns); });
}

}  // namespace gsp
