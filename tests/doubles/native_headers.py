"""Where TensorRT's headers, CUDA's headers and TensorRT's lean runtimes are on this machine."""

from __future__ import annotations

import os
import re
import sysconfig
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

ROOT = Path(__file__).parents[2]
NATIVE = ROOT / ".native" / "tensorrt"  # what .ci/tensorrt brings
NO_TENSORRT_HEADERS = (
    "no TensorRT headers: set GSP_TENSORRT_INCLUDE to the folder of NvInferRuntime.h, such as "
    "include/ of NVIDIA's public TensorRT repository (Apache-2.0); no package has them"
)
_SYSTEM = ("/usr/include/x86_64-linux-gnu", "/usr/include/aarch64-linux-gnu", "/usr/include")


def tensorrt_headers(major: int | None = None) -> Path | None:
    """Return the folder of NvInferRuntime.h, of one major version if you ask for it, or None.

    GSP_TENSORRT_INCLUDE may name several folders, as PATH does.
    """
    own = [place for place in os.environ.get("GSP_TENSORRT_INCLUDE", "").split(os.pathsep) if place]
    root = os.environ.get("TENSORRT_ROOT")
    fetched = [str(place) for place in sorted(NATIVE.glob("headers-*/include"))]
    places = [*own, *([f"{root}/include"] if root else []), *fetched, *_SYSTEM]
    found = _folders_of("NvInferRuntime.h", places)
    return next((folder for folder in found if major in (None, major_of(folder))), None)


def major_of(headers: Path) -> int:
    """Return the major version of TensorRT's headers."""
    text = (headers / "NvInferVersion.h").read_text()
    found = re.search(r"(?:NV_TENSORRT_MAJOR|TRT_MAJOR_ENTERPRISE) +(\d+)", text)
    assert found is not None
    return int(found[1])


def cuda_headers() -> Path | None:
    """Return the folder of cuda_runtime_api.h, or None."""
    packages = Path(sysconfig.get_path("purelib"), "nvidia")
    wheels = [str(path) for path in packages.glob("*/include")] if packages.is_dir() else []
    home = os.environ.get("CUDA_HOME", "/usr/local/cuda")
    found = _folders_of("cuda_runtime_api.h", [f"{home}/include", *wheels, *_SYSTEM])
    return found[0] if found else None


def lean_library() -> Path | None:
    """Return the lean runtime of the installed wheel, or None."""
    spec = find_spec("tensorrt_lean_libs")
    return None if spec is None or spec.origin is None else _lean_in(Path(spec.origin).parent)


def lean_libraries() -> dict[str, Path]:
    """Return the lean runtimes by version: the installed one, and those that were fetched.

    GSP_TENSORRT_RUNTIMES names the folder of those, with an unpacked wheel in a folder a version.
    """
    found = {}
    folder = Path(os.environ.get("GSP_TENSORRT_RUNTIMES", NATIVE / "runtimes"))
    for version in sorted(folder.glob("*")):
        if library := _lean_in(version / "tensorrt_lean_libs"):
            found[version.name] = library
    if library := lean_library():
        found["installed"] = library
    return found


def _lean_in(folder: Path) -> Path | None:
    return next(iter(sorted(folder.glob("libnvinfer_lean.so.*"))), None)


def _folders_of(header: str, places: Sequence[str]) -> list[Path]:
    return [Path(place) for place in places if (Path(place) / header).is_file()]
