"""CMake finds TensorRT's headers and library as each of its packages lays them out."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

MODULES = Path(__file__).parents[2] / "plugins" / "cmake"
PROJECT = """
cmake_minimum_required(VERSION 3.22)
project(finding LANGUAGES CXX)
list(PREPEND CMAKE_MODULE_PATH "${CMAKE_CURRENT_SOURCE_DIR}" "%s")
find_package(TensorRT 10.3 REQUIRED COMPONENTS Runtime)
message(STATUS "found ${TensorRT_VERSION} [${TensorRT_KIND}] ${TensorRT_LIBRARY}")
"""
CUDA = """
add_library(CUDA::cudart INTERFACE IMPORTED)
set(CUDAToolkit_FOUND TRUE)
"""
VERSION = """
#define TRT_MAJOR_ENTERPRISE 11
#define TRT_MINOR_ENTERPRISE 1
#define TRT_PATCH_ENTERPRISE 0
"""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A folder of headers, and a CMake project beside it that looks for TensorRT."""
    include = tmp_path / "root" / "include"
    include.mkdir(parents=True)
    (include / "NvInferRuntime.h").touch()
    (include / "NvInferVersion.h").write_text(VERSION)
    (tmp_path / "CMakeLists.txt").write_text(PROJECT % MODULES)
    (tmp_path / "FindCUDAToolkit.cmake").write_text(CUDA)
    return include.parent


def configure(root: Path, *options: str) -> subprocess.CompletedProcess[str]:
    if shutil.which("cmake") is None or shutil.which("g++") is None:
        pytest.skip("no cmake, or no g++")
    command = ["cmake", "-S", root.parent, "-B", root.parent / "build", f"-DTensorRT_ROOT={root}"]
    return subprocess.run([*command, *options], capture_output=True, text=True)


@pytest.mark.parametrize(
    ("libraries", "found", "kind"),
    [
        (("libnvinfer.so",), "libnvinfer.so", ""),
        (("libnvinfer.so.11", "libnvonnxparser.so.11"), "libnvinfer.so.11", ""),
        (("libnvinfer_lean.so.11",), "libnvinfer_lean.so.11", "lean runtime "),
        (("libnvinfer_dispatch.so.11",), "libnvinfer_dispatch.so.11", "dispatch runtime "),
        (("libnvinfer_lean.so.11", "libnvinfer.so.11"), "libnvinfer.so.11", ""),
    ],
)
def test_the_library_of_a_wheel_is_found(libraries, found: str, kind: str, root: Path) -> None:
    wheel = root.parent / "site-packages" / "tensorrt_libs"
    wheel.mkdir(parents=True)
    for name in libraries:
        (wheel / name).touch()
    done = configure(root, f"-DTensorRT_LIBRARY_ROOT={wheel}")
    assert done.returncode == 0, done.stderr
    assert f"found 11.1.0 [{kind}] {wheel / found}\n" in done.stdout


def test_a_library_of_another_version_is_not_taken(root: Path) -> None:
    (root / "lib").mkdir()
    (root / "lib" / "libnvinfer.so.10").touch()
    done = configure(root)
    assert done.returncode != 0
    assert "pass -DTensorRT_ROOT=" in done.stderr
