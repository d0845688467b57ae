# ONNX Runtime's C API, of which only the header is needed: the library is loaded at run time, so
# that one build runs on any release that is not older. Set ONNXRUNTIME_ROOT to an unpacked release,
# or ONNXRUNTIME_INCLUDE_DIR to the folder of onnxruntime_c_api.h.
include(FindPackageHandleStandardArgs)
find_path(ONNXRUNTIME_INCLUDE_DIR onnxruntime_c_api.h
  HINTS "${ONNXRUNTIME_ROOT}/include" PATH_SUFFIXES onnxruntime onnxruntime/core/session)
if(EXISTS "${ONNXRUNTIME_INCLUDE_DIR}/onnxruntime_c_api.h")  # a folder that was named may have none
  set(OnnxRuntime_HEADER "${ONNXRUNTIME_INCLUDE_DIR}/onnxruntime_c_api.h")
endif()
find_package_handle_standard_args(OnnxRuntime REQUIRED_VARS OnnxRuntime_HEADER
  REASON_FAILURE_MESSAGE "pass -DONNXRUNTIME_INCLUDE_DIR=<the folder of onnxruntime_c_api.h>")
if(OnnxRuntime_FOUND AND NOT TARGET OnnxRuntime::Headers)
  add_library(OnnxRuntime::Headers INTERFACE IMPORTED)
  set_target_properties(OnnxRuntime::Headers PROPERTIES
    INTERFACE_SYSTEM_INCLUDE_DIRECTORIES "${ONNXRUNTIME_INCLUDE_DIR}"
    INTERFACE_INCLUDE_DIRECTORIES "${ONNXRUNTIME_INCLUDE_DIR}")
endif()
