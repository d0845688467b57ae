"""The C++ TensorRT backend linked to the real lean runtime: without a GPU it is one clear line."""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from native_headers import NO_TENSORRT_HEADERS, cuda_headers, lean_library, tensorrt_headers

from gsp_deploy.bundle.files import write_sums
from gsp_deploy.engine.api import this_platform

from .native import SOURCE, Build, build, run_quietly
from .test_bundles import edit

pytestmark = pytest.mark.slow
FULL, LEAN, DISPATCH = "", "lean runtime ", "dispatch runtime "
QUICK = ("-DCMAKE_BUILD_TYPE=Debug", "-DCMAKE_CXX_FLAGS_DEBUG=-O0")
ENGINE = {
    "runtime": "tensorrt",
    "file": "tiny.engine",
    "precision": "fp32",
    "max_cosine_distance": 1e-5,
    "tensorrt": "11.1.0",
    "platform": this_platform(),
    "compute_capabilities": ["8.6"],
    "hardware_compatibility": "none",
    "version_compatible": True,
    "lean": True,
}


@pytest.fixture(scope="module")
def start_of(tmp_path_factory) -> Callable[[str], Path]:
    """Return a function that compiles a program which starts a kind of TensorRT, on doubles."""
    headers, cuda = tensorrt_headers(), cuda_headers()
    if headers is None:
        pytest.skip(NO_TENSORRT_HEADERS)
    if cuda is None or shutil.which("g++") is None:
        pytest.skip("no g++, or no CUDA headers: set CUDA_HOME")
    here = Path(__file__).parent
    includes = (f"-I{SOURCE / 'src'}", f"-I{SOURCE / 'include'}", "-isystem", headers)
    sources = [SOURCE / f"src/{name}.cpp" for name in ("tensorrt_start", "error")]

    @functools.cache
    def compile_(kind: str) -> Path:
        program = tmp_path_factory.mktemp("start") / "start"
        run_quietly("g++", "-std=c++17", "-O1", f'-DGSP_TENSORRT_KIND="{kind}"', *includes,
                    "-isystem", cuda, *sources, here / "tensorrt_start.cpp", "-o", program,
                    "-ldl")  # fmt: skip
        return program

    return compile_


@pytest.fixture(scope="module")
def start(start_of) -> Path:
    return start_of("")


@pytest.mark.parametrize(
    ("kind", "fitting"),
    [
        (FULL, {"11.4.0 plain", "11.4.0 compatible", "10.3.0 compatible", "11.4.0 lean"}),
        (LEAN, {"11.4.0 compatible", "10.3.0 compatible", "11.4.0 lean", "10.3.0 lean"}),
        (DISPATCH, {"11.4.0 compatible", "10.3.0 compatible"}),
    ],
    ids=["full", "lean", "dispatch"],
)
def test_each_runtime_takes_the_plans_that_python_gives_it(kind: str, fitting, start_of) -> None:
    for version in ("11.4.0", "10.3.0", "11.5.0", "9.3.0"):
        for plan in ("plain", "compatible", "lean"):
            said = run_quietly(start_of(kind), "fits", version, plan)
            if f"{version} {plan}" in fitting:
                assert said == "fits\n"
            else:
                assert f"built by TensorRT {version}, this is tensorrt {kind}11.4.0" in said


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("99000",), "started tensorrt 11.4.0"),
        (("99000", "CUDA failure 35"), "TensorRT does not start: CUDA failure 35"),
        (("0",), "TensorRT needs NVIDIA's driver, and there is none here"),
        (("11040",), "and the driver here supports CUDA 11.4; install a newer driver"),
    ],
)
def test_a_failed_start_is_one_line_and_no_crash(words: tuple[str, ...], said: str, start) -> None:
    found = run_quietly(start, *words)
    assert found.endswith(f"{said}\n")
    assert found.count("\n") == 1


@pytest.fixture(scope="module")
def linked(tmp_path_factory) -> Build:
    library = lean_library()
    if library is None:
        pytest.skip("TensorRT's lean runtime is not installed: pip install 'gsp-deploy[lean]'")
    headers = tensorrt_headers(int(library.suffix[1:]))
    if headers is None:
        pytest.skip(f"{NO_TENSORRT_HEADERS} (of the version of {library.name})")
    if shutil.which("nvcc") is None:
        pytest.skip("no CUDA toolkit: put nvcc on PATH")
    return build(
        tmp_path_factory.mktemp("lean"),
        "-DGSP_RUNTIME_TENSORRT=ON",
        f"-DTensorRT_ROOT={headers.parent}",
        f"-DTensorRT_LIBRARY_ROOT={library.parent}",
        *QUICK,
        targets=("gsp_embed_images",),
    )


@pytest.fixture
def lean_bundle(bundle: Path, tmp_path: Path) -> Callable[..., Path]:
    """Return a function that copies the bundle with an engine in place of its model."""

    def make(**changes: object) -> Path:
        folder = tmp_path / "bundle"
        shutil.copytree(bundle, folder)
        (folder / "tiny.engine").write_bytes(b"a plan")

        def put(manifest: dict) -> None:
            model = manifest["artifacts"][0]
            manifest["artifacts"] = [{**ENGINE, "input": model["input"], **changes}, model]

        edit(folder, put)
        write_sums(folder)
        return folder

    return make


def test_every_symbol_is_in_the_real_library(linked: Build) -> None:
    library = linked.folder / "libgsp_runtime.so"
    found = subprocess.run(["ldd", "-r", library], capture_output=True, text=True, check=True)
    assert "libnvinfer_lean.so" in found.stdout
    assert "undefined symbol" not in found.stdout + found.stderr


@pytest.mark.skipif(os.path.exists("/dev/nvidia0"), reason="this machine has a GPU")
@pytest.mark.parametrize("changes", [{}, {"lean": False}, {"version_compatible": False}])
def test_without_a_gpu_it_is_one_line(linked: Build, lean_bundle, changes: dict) -> None:
    done = linked.run("embed_images", lean_bundle(**changes), "--selftest")
    assert (done.returncode, done.stdout) == (4, "")
    assert done.stderr.startswith("error: CUDA cannot ")
    assert "driver" in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.skipif(os.path.exists("/dev/nvidia0"), reason="this machine has a GPU")
def test_without_a_gpu_the_next_artifact_is_taken(linked: Build, lean_bundle) -> None:
    done = linked.run("embed_images", lean_bundle(), "--selftest", "--fallback")
    assert done.returncode == 0, done.stderr
