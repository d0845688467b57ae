# TensorRT: its headers as TensorRT::Headers, all that a plugin needs of it, and with the component
# Runtime its library as TensorRT::TensorRT, for which the CUDA toolkit must be there too: TensorRT
# itself, or else its lean or its dispatch runtime (TensorRT_KIND says which). Set TensorRT_ROOT to
# the folder of the headers, and TensorRT_LIBRARY_ROOT to that of the library where it is another one,
# such as site-packages/tensorrt_libs of a Python environment.
include(FindPackageHandleStandardArgs)
set(roots "${TensorRT_ROOT}" "$ENV{TensorRT_ROOT}" "${TENSORRT_ROOT}" "$ENV{TENSORRT_ROOT}"
          PATHS /usr/local/tensorrt /usr/src/tensorrt /opt/tensorrt)
find_path(TensorRT_INCLUDE_DIR NvInferRuntime.h HINTS ${roots}
  PATH_SUFFIXES include aarch64-linux-gnu x86_64-linux-gnu include/aarch64-linux-gnu
                include/x86_64-linux-gnu)
if(TensorRT_INCLUDE_DIR)
  file(READ "${TensorRT_INCLUDE_DIR}/NvInferVersion.h" header)
  foreach(part MAJOR MINOR PATCH)
    # 10.x defines NV_TENSORRT_MAJOR as a number; later releases by way of TRT_MAJOR_ENTERPRISE.
    if(header MATCHES "(NV_TENSORRT_${part}|TRT_${part}_ENTERPRISE) +([0-9]+)")
      set(version_${part} "${CMAKE_MATCH_2}")
    endif()
  endforeach()
  set(TensorRT_VERSION "${version_MAJOR}.${version_MINOR}.${version_PATCH}")
endif()
if("Runtime" IN_LIST TensorRT_FIND_COMPONENTS)
  # Python's wheels have the name with the version alone: libnvinfer.so.11.
  set(names)
  foreach(kind nvinfer nvinfer_lean nvinfer_dispatch)
    list(APPEND names ${kind} lib${kind}.so.${version_MAJOR})
  endforeach()
  find_library(TensorRT_LIBRARY NAMES ${names} NAMES_PER_DIR
    HINTS "${TensorRT_LIBRARY_ROOT}" "$ENV{TensorRT_LIBRARY_ROOT}" ${roots}
    PATH_SUFFIXES lib targets/x86_64-linux-gnu/lib)
  set(TensorRT_KIND "")
  if(TensorRT_LIBRARY MATCHES "libnvinfer_(lean|dispatch)")
    set(TensorRT_KIND "${CMAKE_MATCH_1} runtime ")
  endif()
  find_package(CUDAToolkit QUIET)
  if(TensorRT_LIBRARY AND CUDAToolkit_FOUND)
    set(TensorRT_Runtime_FOUND TRUE)
  endif()
endif()
find_package_handle_standard_args(TensorRT
  REQUIRED_VARS TensorRT_INCLUDE_DIR VERSION_VAR TensorRT_VERSION HANDLE_COMPONENTS
  REASON_FAILURE_MESSAGE "pass -DTensorRT_ROOT=<the folder that has include/NvInferRuntime.h>")
if(TensorRT_FOUND AND NOT TARGET TensorRT::Headers)
  add_library(TensorRT::Headers INTERFACE IMPORTED)
  target_include_directories(TensorRT::Headers SYSTEM INTERFACE "${TensorRT_INCLUDE_DIR}")
endif()
if(TensorRT_FOUND AND TensorRT_Runtime_FOUND AND NOT TARGET TensorRT::TensorRT)
  add_library(TensorRT::TensorRT UNKNOWN IMPORTED)
  set_target_properties(TensorRT::TensorRT PROPERTIES IMPORTED_LOCATION "${TensorRT_LIBRARY}")
  target_link_libraries(TensorRT::TensorRT INTERFACE TensorRT::Headers CUDA::cudart)
endif()
