// The functions of OpenVINO's C API that this library calls, declared here so that a build needs no
// headers of OpenVINO; a test holds them against those of a release. The numbers of element types
// differ between releases: they are only passed on, never written down.
#pragma once

#include <cstddef>
#include <cstdint>
#include <gsp/embedder.hpp>
#include <string>

struct ov_core;
struct ov_model;
struct ov_compiled_model;
struct ov_infer_request;
struct ov_tensor;
struct ov_output_const_port;

namespace gsp {

struct OpenVinoShape {
  std::int64_t rank;
  std::int64_t* dims;
};

struct OpenVinoVersion {
  const char* build;
  const char* description;
};

// Each member is named like its function, without the ov_.
struct OpenVinoApi {
  using Status = int;       // 0 is success
  using ElementType = int;  // of the release that is loaded

  Status (*get_openvino_version)(OpenVinoVersion*);
  void (*version_free)(OpenVinoVersion*);
  const char* (*get_last_err_msg)();
  void (*free)(const char*);

  Status (*core_create)(ov_core**);
  void (*core_free)(ov_core*);
  Status (*core_get_property)(const ov_core*, const char* device, const char* key, char** value);
  Status (*core_read_model)(const ov_core*, const char* file, const char* weights, ov_model**);
  Status (*core_compile_model)(const ov_core*, const ov_model*, const char* device,
                               std::size_t words, ov_compiled_model**, ...);

  void (*model_free)(ov_model*);
  Status (*model_const_input)(const ov_model*, ov_output_const_port**);
  Status (*model_outputs_size)(const ov_model*, std::size_t*);
  Status (*model_const_output_by_index)(const ov_model*, std::size_t, ov_output_const_port**);
  Status (*port_get_any_name)(const ov_output_const_port*, char**);
  Status (*port_get_element_type)(const ov_output_const_port*, ElementType*);
  void (*output_const_port_free)(ov_output_const_port*);

  void (*compiled_model_free)(ov_compiled_model*);
  Status (*compiled_model_create_infer_request)(const ov_compiled_model*, ov_infer_request**);
  void (*infer_request_free)(ov_infer_request*);
  Status (*infer_request_set_input_tensor)(ov_infer_request*, const ov_tensor*);
  Status (*infer_request_infer)(ov_infer_request*);
  Status (*infer_request_get_tensor)(const ov_infer_request*, const char* name, ov_tensor**);

  Status (*tensor_create_from_host_ptr)(ElementType, OpenVinoShape, void*, ov_tensor**);
  Status (*tensor_get_size)(const ov_tensor*, std::size_t* elements);
  Status (*tensor_get_byte_size)(const ov_tensor*, std::size_t* bytes);
  Status (*tensor_data)(const ov_tensor*, void**);
  void (*tensor_free)(ov_tensor*);
};

// Load the library and keep it for the life of the process. Throws Error(missing).
const OpenVinoApi& openvino_api(const Options& options);

}  // namespace gsp
