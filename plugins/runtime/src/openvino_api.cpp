#include "openvino_api.hpp"

#include <dlfcn.h>

#include <cstdlib>
#include <gsp/error.hpp>
#include <map>
#include <mutex>
#include <vector>

namespace gsp {
namespace {

template <typename Function>
void find(void* library, const std::string& file, const char* name, Function& function) {
  function = reinterpret_cast<Function>(dlsym(library, name));
  if (function == nullptr)
    throw Error(ErrorKind::missing,
                file + " has no function " + name + "; install OpenVINO 2025.2 or newer");
}

OpenVinoApi functions_of(void* library, const std::string& file) {
  OpenVinoApi api;
#define GSP_FIND(name) find(library, file, "ov_" #name, api.name)
  GSP_FIND(get_openvino_version);
  GSP_FIND(version_free);
  GSP_FIND(get_last_err_msg);
  GSP_FIND(free);
  GSP_FIND(core_create);
  GSP_FIND(core_free);
  GSP_FIND(core_get_property);
  GSP_FIND(core_read_model);
  GSP_FIND(core_compile_model);
  GSP_FIND(model_free);
  GSP_FIND(model_const_input);
  GSP_FIND(model_outputs_size);
  GSP_FIND(model_const_output_by_index);
  GSP_FIND(port_get_any_name);
  GSP_FIND(port_get_element_type);
  GSP_FIND(output_const_port_free);
  GSP_FIND(compiled_model_free);
  GSP_FIND(compiled_model_create_infer_request);
  GSP_FIND(infer_request_free);
  GSP_FIND(infer_request_set_input_tensor);
  GSP_FIND(infer_request_infer);
  GSP_FIND(infer_request_get_tensor);
  GSP_FIND(tensor_create_from_host_ptr);
  GSP_FIND(tensor_get_size);
  GSP_FIND(tensor_get_byte_size);
  GSP_FIND(tensor_data);
  GSP_FIND(tensor_free);
#undef GSP_FIND
  return api;
}

std::vector<std::string> candidates(const Options& options) {
  if (!options.openvino_library.empty()) return {options.openvino_library.string()};
  const char* named = std::getenv("GSP_OPENVINO_LIBRARY");
  if (named != nullptr && *named != '\0') return {named};
  return {"libopenvino_c.so"};
}

}  // namespace

const OpenVinoApi& openvino_api(const Options& options) {
  static std::mutex mutex;
  static std::map<void*, OpenVinoApi> loaded;  // dlopen returns the same handle for the same file
  std::string reason;
  for (const std::string& file : candidates(options)) {
    if (void* library = dlopen(file.c_str(), RTLD_NOW | RTLD_LOCAL)) {
      const std::lock_guard<std::mutex> lock(mutex);
      const auto found = loaded.find(library);
      if (found != loaded.end()) return found->second;
      return loaded.emplace(library, functions_of(library, file)).first->second;
    }
    if (const char* error = dlerror(); reason.empty() && error != nullptr) reason = error;
  }
  throw Error(ErrorKind::missing,
              "OpenVINO cannot be loaded (" + reason +
                  "); install it, or name its libopenvino_c.so in GSP_OPENVINO_LIBRARY");
}

}  // namespace gsp
