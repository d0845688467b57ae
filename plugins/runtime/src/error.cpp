#include <gsp/error.hpp>

namespace gsp {

int Error::exit_code() const noexcept {
  switch (kind_) {
    case ErrorKind::usage: return 2;
    case ErrorKind::mismatch: return 3;
    case ErrorKind::missing: return 4;
    default: return 1;
  }
}

}  // namespace gsp
