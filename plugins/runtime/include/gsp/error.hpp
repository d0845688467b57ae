// The one exception that the library throws on purpose.
#pragma once

#include <gsp/api.hpp>
#include <stdexcept>
#include <string>

namespace gsp {

enum class ErrorKind {
  usage,     // an argument cannot be used as given
  bundle,    // the bundle is missing, damaged, hostile, or of another format
  image,     // an image cannot be decoded
  missing,   // this machine or this build lacks what the bundle needs
  mismatch,  // the self-test ran and something does not fit
  runtime,   // ONNX Runtime, TensorRT or CUDA failed
};

// what() says in one line what was expected, what came and what to do next. Besides this only
// std::bad_alloc leaves the library.
class GSP_API Error : public std::runtime_error {
 public:
  // Control characters of the message, which may quote a hostile file, become question marks.
  Error(ErrorKind kind, const std::string& message);
  ErrorKind kind() const noexcept { return kind_; }

  // What a program should exit with: 2 usage, 3 mismatch, 4 missing, otherwise 1.
  int exit_code() const noexcept;

 private:
  ErrorKind kind_;
};

}  // namespace gsp
