"""Building and running the C++ library for its tests."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
SOURCE = ROOT / "plugins" / "runtime"
# Set where a skip would hide that the native tests did not run.
REQUIRED = "GSP_REQUIRE_NATIVE"
_HEADER_FOLDERS = (
    ROOT / ".native/usr/include/onnxruntime",  # .ci/native-deps
    Path("/usr/include/onnxruntime"),
    Path("/usr/local/include/onnxruntime"),
)


@dataclass(frozen=True)
class Build:
    """A build folder of the library, its examples and its probe."""

    folder: Path
    options: tuple[str, ...]

    def run(
        self, program: str, *arguments: object, **environment: str
    ) -> subprocess.CompletedProcess[str]:
        """Run a program of the build and return what it printed and its exit code."""
        command = [str(self.folder / program), *map(str, arguments)]
        if any("thread" in option for option in self.options) and shutil.which("setarch"):
            # ThreadSanitizer wants its memory where the kernel's randomisation may not leave it.
            command = ["setarch", "-R", *command]
        return subprocess.run(
            command,
            env=_environment() | environment,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=120,
        )

    def lines(self, program: str, *arguments: object) -> list[str]:
        """Run a program that must succeed and return its lines on stdout."""
        done = self.run(program, *arguments)
        assert done.returncode == 0, done.stderr
        return done.stdout.splitlines()


def build(folder: Path, *options: str, targets: Sequence[str] = ()) -> Build:
    """Configure and build; skip, with the reason, where this machine lacks what that takes."""
    headers = _headers()
    cmake = _cmake()
    common = [f"-DONNXRUNTIME_INCLUDE_DIR={headers}", "-DGSP_RUNTIME_TESTS=ON"]
    common += ["-DGSP_RUNTIME_TENSORRT=OFF"]  # an option may say otherwise
    generator = ["-G", "Ninja"] if shutil.which("ninja") else []
    run_quietly(cmake, "-S", SOURCE, "-B", folder, *generator, *common, *options)
    chosen = ["--target", *targets] if targets else []
    run_quietly(cmake, "--build", folder, "--parallel", "2", *chosen)
    return Build(folder, options)


def run_quietly(*command: object) -> str:
    """Run a command that must succeed and return its stdout."""
    done = subprocess.run(
        [str(word) for word in command], capture_output=True, text=True, timeout=1200
    )
    assert done.returncode == 0, (done.stdout + done.stderr)[-6000:]
    return done.stdout


def lacking(what: str) -> None:
    """Skip, or fail where the native tests are required to run."""
    if os.environ.get(REQUIRED):
        pytest.fail(f"{REQUIRED} is set, and this machine lacks {what}")
    pytest.skip(f"needs {what}; .ci/native-deps installs it on Debian")


def onnxruntime_library() -> Path:
    """Return the library within the Python package."""
    spec = find_spec("onnxruntime")
    assert spec is not None
    assert spec.origin is not None
    found = sorted((Path(spec.origin).parent / "capi").glob("libonnxruntime.so.*"))
    if not found:
        lacking("an onnxruntime package with libonnxruntime.so")
    return found[0]


def openvino_library() -> Path:
    """Return OpenVINO's C library within the Python package."""
    return sorted((openvino_folder() / "libs").glob("libopenvino_c.so*"))[0]


def openvino_folder() -> Path:
    """Return the folder of the Python package, with its libraries and headers."""
    spec = find_spec("openvino")
    if spec is None or spec.origin is None:
        lacking("the package openvino")
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).parent


def _cmake() -> str:
    for program in ("g++", "cmake"):
        if shutil.which(program) is None:
            lacking(program)
    for header in ("jpeglib.h", "zlib.h"):
        if not any(Path("/usr").glob(f"include/{header}")) and not any(
            Path("/usr/include").glob(f"*/{header}")
        ):
            lacking(header)
    return "cmake"


def _headers() -> Path:
    if not sys.platform.startswith("linux"):
        lacking("Linux")
    for folder in _HEADER_FOLDERS:
        if (folder / "onnxruntime_c_api.h").is_file():
            return folder
    lacking("ONNX Runtime's C header onnxruntime_c_api.h")
    raise AssertionError


def _environment() -> dict[str, str]:
    return {
        **os.environ,
        "GSP_ONNXRUNTIME_LIBRARY": str(onnxruntime_library()),
        **({"GSP_OPENVINO_LIBRARY": str(openvino_library())} if find_spec("openvino") else {}),
        "ASAN_OPTIONS": "detect_leaks=1:abort_on_error=0",
        "TBB_ENABLE_SANITIZERS": "1",  # oneTBB, in OpenVINO, then loads libraries as ASan can
        "UBSAN_OPTIONS": "halt_on_error=1:print_stacktrace=1",
        "TSAN_OPTIONS": "halt_on_error=1:ignore_noninstrumented_modules=1",
    }
