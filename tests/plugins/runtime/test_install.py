"""The installed tree: found by CMake and pkg-config, a versioned ABI, and the bundle's README."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from .native import Build, onnxruntime_library, run_quietly


@pytest.fixture(scope="module")
def prefix(library: Build, tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("prefix")
    run_quietly("cmake", "--install", library.folder, "--prefix", target)
    return target


def code_blocks(bundle: Path) -> dict[str, str]:
    """Return the README's code by language."""
    text = (bundle / "README.md").read_text(encoding="utf-8")
    return dict(re.findall(r"^```(python|cpp|cmake)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL))


def run_in(bundle: Path, program: Path, prefix: Path) -> str:
    environment = {
        **os.environ,
        "GSP_ONNXRUNTIME_LIBRARY": str(onnxruntime_library()),
        "LD_LIBRARY_PATH": str(next(prefix.glob("lib*")).resolve()),
    }
    return subprocess.run(
        [program], cwd=bundle, env=environment, capture_output=True, text=True, check=True
    ).stdout


def test_the_readmes_cpp_builds_and_runs(prefix: Path, bundle: Path, tmp_path: Path) -> None:
    """Copied as it stands, against the installed library found by find_package."""
    blocks = code_blocks(bundle)
    (tmp_path / "embed.cpp").write_text(blocks["cpp"])
    (tmp_path / "CMakeLists.txt").write_text(blocks["cmake"])
    run_quietly("cmake", "-S", tmp_path, "-B", tmp_path / "b", f"-DCMAKE_PREFIX_PATH={prefix}")
    run_quietly("cmake", "--build", tmp_path / "b")
    assert run_in(bundle, tmp_path / "b" / "embed", prefix) == "8 values\n"


def test_pkg_config_finds_it(prefix: Path, bundle: Path, tmp_path: Path) -> None:
    if shutil.which("pkg-config") is None:
        pytest.skip("needs pkg-config")
    folder = next(prefix.rglob("pkgconfig"))
    flags = subprocess.run(
        ["pkg-config", "--cflags", "--libs", "gsp_runtime"],
        env={**os.environ, "PKG_CONFIG_PATH": str(folder)},
        capture_output=True, text=True, check=True,
    ).stdout.split()  # fmt: skip
    (tmp_path / "embed.cpp").write_text(code_blocks(bundle)["cpp"])
    run_quietly("g++", "-std=c++17", tmp_path / "embed.cpp", "-o", tmp_path / "embed", *flags)
    assert run_in(bundle, tmp_path / "embed", prefix) == "8 values\n"


def test_the_abi_is_versioned_and_nothing_else_leaks(library: Build) -> None:
    shared = library.folder / "libgsp_runtime.so"
    dynamic = run_quietly("readelf", "-d", shared)
    assert "[libgsp_runtime.so.0]" in dynamic
    assert "onnxruntime" not in dynamic
    names = run_quietly("nm", "-DC", "--defined-only", shared).splitlines()
    exported = [
        line.split(" ", 2)[2] for line in names if "GSP_RUNTIME_0" in line and " A " not in line
    ]
    assert any(name.startswith("gsp::Embedder::open(") for name in exported)
    assert all("gsp::" in name and name.endswith("@@GSP_RUNTIME_0") for name in exported)
    assert not any("Json" in name or "Backend" in name for name in exported)
