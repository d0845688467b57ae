#include "read_file.hpp"

#include <fstream>

namespace gsp {

std::string read_file(const std::filesystem::path& file, ErrorKind kind, const char* hint) {
  std::error_code failed;
  const auto size =
      std::filesystem::is_regular_file(file, failed) ? std::filesystem::file_size(file, failed) : 0;
  std::ifstream stream(file, std::ios::binary);
  std::string content(static_cast<std::size_t>(failed ? 0 : size), '\0');
  stream.read(content.data(), static_cast<std::streamsize>(content.size()));
  if (failed || !stream || !std::filesystem::is_regular_file(file, failed))
    throw Error(kind, file.string() + ": cannot be read" + hint);
  return content;
}

}  // namespace gsp
