# TensorRT 10.3 or newer and the CUDA runtime. Set TENSORRT_ROOT where it is not installed by packages.
include(FindPackageHandleStandardArgs)
find_path(TENSORRT_INCLUDE_DIR NvInferRuntime.h HINTS "${TENSORRT_ROOT}/include"
  PATH_SUFFIXES aarch64-linux-gnu x86_64-linux-gnu)
find_library(TENSORRT_LIBRARY nvinfer HINTS "${TENSORRT_ROOT}/lib" "${TENSORRT_ROOT}/targets/x86_64-linux-gnu/lib")
find_package(CUDAToolkit QUIET)
if(TENSORRT_INCLUDE_DIR)
  file(READ "${TENSORRT_INCLUDE_DIR}/NvInferVersion.h" version_header)
  foreach(part MAJOR MINOR PATCH)
    # 10.x defines NV_TENSORRT_MAJOR as a number; later releases by way of TRT_MAJOR_ENTERPRISE.
    if(version_header MATCHES "(NV_TENSORRT_${part}|TRT_${part}_ENTERPRISE) +([0-9]+)")
      set(version_${part} "${CMAKE_MATCH_2}")
    endif()
  endforeach()
  set(TensorRT_VERSION "${version_MAJOR}.${version_MINOR}.${version_PATCH}")
endif()
find_package_handle_standard_args(TensorRT
  REQUIRED_VARS TENSORRT_LIBRARY TENSORRT_INCLUDE_DIR CUDAToolkit_FOUND VERSION_VAR TensorRT_VERSION)
if(TensorRT_FOUND AND TensorRT_VERSION VERSION_LESS 10.3)
  message(FATAL_ERROR "gsp_runtime needs TensorRT 10.3 or newer, found ${TensorRT_VERSION}")
endif()
if(TensorRT_FOUND AND NOT TARGET TensorRT::TensorRT)
  add_library(TensorRT::TensorRT UNKNOWN IMPORTED)
  set_target_properties(TensorRT::TensorRT PROPERTIES
    IMPORTED_LOCATION "${TENSORRT_LIBRARY}"
    INTERFACE_SYSTEM_INCLUDE_DIRECTORIES "${TENSORRT_INCLUDE_DIR}"
    INTERFACE_INCLUDE_DIRECTORIES "${TENSORRT_INCLUDE_DIR}"
    INTERFACE_LINK_LIBRARIES CUDA::cudart)
endif()
