#include "read_file.hpp"

#include <fstream>

namespace gsp {

std::string read_file(const std::filesystem::path& file, ErrorKind kind, std::uintmax_t most,
                      const char* hint) {
  std::error_code failed;
  if (std::filesystem::is_regular_file(file, failed)) {  // a pipe would keep us waiting
    const auto size = std::filesystem::file_size(file, failed);
    if (!failed && size > most)
      throw Error(kind, file.string() + ": " + std::to_string(size) +
                            " bytes are beyond the limit of " + std::to_string(most) + hint);
    std::string content(static_cast<std::size_t>(failed ? 0 : size), '\0');
    std::ifstream stream(file, std::ios::binary);
    stream.read(content.data(), static_cast<std::streamsize>(content.size()));
    if (stream && !failed) return content;
  }
  throw Error(kind, file.string() + ": cannot be read" + hint);
}

}  // namespace gsp
