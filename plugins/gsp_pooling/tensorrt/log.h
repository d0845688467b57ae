// Messages through the logger that TensorRT lends to plugin libraries.
#pragma once

#include <NvInferRuntime.h>

#include <exception>
#include <string>

namespace gsp_deploy::tensorrt {

// Remember where TensorRT keeps its logger; null forgets it.
void set_logger_finder(nvinfer1::ILoggerFinder* finder) noexcept;

// Log an error, prefixed by the plugin's name; on stderr where TensorRT lent no logger.
void log_error(const std::string& message) noexcept;

// Run `body` and return its result. What it throws is logged, and `failed` returned instead:
// nothing may leave a plugin's methods.
template <typename Result, typename Body>
Result guarded(Result failed, Body body) noexcept {
  try {
    return body();
  } catch (const std::exception& error) {
    log_error(error.what());
  } catch (...) {
    log_error("an error of unknown type");
  }
  return failed;
}

}  // namespace gsp_deploy::tensorrt
