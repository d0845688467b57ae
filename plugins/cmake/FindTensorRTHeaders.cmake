# TensorRT's headers, 10.3 or newer: all that a plugin needs of it. Set TensorRT_ROOT where they are
# neither in a system path nor where JetPack's and NVIDIA's packages put them.
include(FindPackageHandleStandardArgs)
find_path(TensorRTHeaders_INCLUDE_DIR NvInferRuntime.h
  HINTS "${TensorRT_ROOT}" "$ENV{TensorRT_ROOT}" "${TENSORRT_ROOT}" "$ENV{TENSORRT_ROOT}"
  PATHS /usr/local/tensorrt /usr/src/tensorrt /opt/tensorrt
  PATH_SUFFIXES include aarch64-linux-gnu x86_64-linux-gnu include/aarch64-linux-gnu
                include/x86_64-linux-gnu)
if(TensorRTHeaders_INCLUDE_DIR)
  file(READ "${TensorRTHeaders_INCLUDE_DIR}/NvInferVersion.h" header)
  foreach(part MAJOR MINOR PATCH)
    # A number under the one name, or by way of the other.
    if(header MATCHES "(NV_TENSORRT_${part}|TRT_${part}_ENTERPRISE) +([0-9]+)")
      set(version_${part} "${CMAKE_MATCH_2}")
    endif()
  endforeach()
  set(TensorRTHeaders_VERSION "${version_MAJOR}.${version_MINOR}.${version_PATCH}")
endif()
find_package_handle_standard_args(TensorRTHeaders
  REQUIRED_VARS TensorRTHeaders_INCLUDE_DIR VERSION_VAR TensorRTHeaders_VERSION
  REASON_FAILURE_MESSAGE "pass -DTensorRT_ROOT=<the folder that has include/NvInferRuntime.h>")
if(TensorRTHeaders_FOUND AND NOT TARGET TensorRT::Headers)
  add_library(TensorRT::Headers INTERFACE IMPORTED)
  target_include_directories(TensorRT::Headers SYSTEM INTERFACE "${TensorRTHeaders_INCLUDE_DIR}")
endif()
