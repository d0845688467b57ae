"""Where the headers of TensorRT and of CUDA are on this machine, and the lean runtime's library."""

from __future__ import annotations

import os
import sysconfig
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

ROOT = Path(__file__).parents[2]
NO_TENSORRT_HEADERS = (
    "no TensorRT headers: set GSP_TENSORRT_INCLUDE to the folder of NvInferRuntime.h, such as "
    "include/ of NVIDIA's public TensorRT repository (Apache-2.0); no package has them"
)
_SYSTEM = ("/usr/include/x86_64-linux-gnu", "/usr/include/aarch64-linux-gnu", "/usr/include")


def tensorrt_headers() -> Path | None:
    """Return the folder of NvInferRuntime.h, or None."""
    own = os.environ.get("GSP_TENSORRT_INCLUDE")
    root = os.environ.get("TENSORRT_ROOT")
    fetched = ROOT / ".native/tensorrt/include"  # .ci/native-deps
    places = [own] if own else [*([f"{root}/include"] if root else []), str(fetched), *_SYSTEM]
    return _folder_of("NvInferRuntime.h", places)


def cuda_headers() -> Path | None:
    """Return the folder of cuda_runtime_api.h, or None."""
    packages = Path(sysconfig.get_path("purelib"), "nvidia")
    wheels = [str(path) for path in packages.glob("*/include")] if packages.is_dir() else []
    home = os.environ.get("CUDA_HOME", "/usr/local/cuda")
    return _folder_of("cuda_runtime_api.h", [f"{home}/include", *wheels, *_SYSTEM])


def lean_library() -> Path | None:
    """Return TensorRT's lean runtime as the wheel brings it, or None."""
    spec = find_spec("tensorrt_lean_libs")
    if spec is None or spec.origin is None:
        return None
    return next(iter(sorted(Path(spec.origin).parent.glob("libnvinfer_lean.so.*"))), None)


def _folder_of(header: str, places: Sequence[str]) -> Path | None:
    return next((Path(place) for place in places if (Path(place) / header).is_file()), None)
