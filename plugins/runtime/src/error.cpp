#include <algorithm>
#include <gsp/error.hpp>

namespace gsp {
namespace {

bool is_control(char c) { return static_cast<unsigned char>(c) < ' ' || c == '\x7f'; }

std::string one_line(std::string text) {
  std::replace_if(text.begin(), text.end(), is_control, '?');
  return text;
}

}  // namespace

Error::Error(ErrorKind kind, const std::string& message)
    : std::runtime_error(one_line(message)), kind_(kind) {}

int Error::exit_code() const noexcept {
  switch (kind_) {
    case ErrorKind::usage: return 2;
    case ErrorKind::mismatch: return 3;
    case ErrorKind::missing: return 4;
    default: return 1;
  }
}

}  // namespace gsp
