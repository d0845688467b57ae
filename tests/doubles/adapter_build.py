"""Building the TensorRT plugin without nvcc: its kernel is replaced by a launcher that records."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
from native_headers import NO_TENSORRT_HEADERS, cuda_headers, tensorrt_headers

ROOT = Path(__file__).parents[2]
POOLING = ROOT / "plugins" / "gsp_pooling"
ADAPTER = POOLING / "tensorrt"
LAUNCHER = ROOT / "tests" / "plugins" / "adapter" / "recording_launcher.cpp"
WARNINGS = ("-Wall", "-Wextra", "-Wpedantic", "-Wshadow", "-Werror")


def build_adapter(folder: Path, major: int | None = None) -> tuple[Path, Path]:
    """Return the plugin's library and its contract host; skip if this machine cannot build them."""
    tensorrt, cuda = tensorrt_headers(major), cuda_headers()
    if tensorrt is None:
        which = "" if major is None else f" (of TensorRT {major})"
        pytest.skip(NO_TENSORRT_HEADERS + which)
    if cuda is None or shutil.which("g++") is None:
        pytest.skip("no g++, or no CUDA headers: set CUDA_HOME")
    common = ["g++", "-std=c++17", "-O1", *WARNINGS, "-isystem", tensorrt, "-isystem", cuda]
    library, program = folder / "libgsp_plugin.so", folder / "contract_host"
    sources = [file for file in sorted(ADAPTER.glob("*.cpp")) if file.name != "contract_host.cpp"]
    subprocess.run(
        [*common, "-shared", "-fPIC", "-fvisibility=hidden", '-DGSP_DEPLOY_VERSION="test"',
         f"-I{POOLING}", *sources, POOLING / "gsp_pooling_params.cpp", LAUNCHER,
         f"-Wl,--version-script={ADAPTER / 'symbols.map'}", "-Wl,--no-undefined", "-o", library],
        check=True,
    )  # fmt: skip
    subprocess.run([*common, ADAPTER / "contract_host.cpp", "-o", program, "-ldl"], check=True)
    return library, program
