// The one exception that leaves the library.
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

// what() says in one line what was expected, what came and what to do next, in UTF-8: bytes of a
// file's name that are none become question marks. Every public function throws this and nothing
// else; memory that is not there is of kind `runtime`.
class GSP_API Error : public std::runtime_error {
 public:
  // Control characters of the message, which may quote a hostile file, and what is no UTF-8 become
  // question marks.
  Error(ErrorKind kind, const std::string& message);
  ErrorKind kind() const noexcept { return kind_; }

  // What a program should exit with: 2 usage, 3 mismatch, 4 missing, otherwise 1.
  int exit_code() const noexcept;

 private:
  ErrorKind kind_;
};

}  // namespace gsp
