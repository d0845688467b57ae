"""A lean install: how large it is, and that embedding needs numpy, the runtime and cuda-bindings.

Nothing runs on a GPU here: without one, opening an engine comes as far as asking for it.
"""

from __future__ import annotations

import re
import subprocess
import sys
import zlib
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path

import pytest
from host_device import HostDevice
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from tensorrt_double import write_engine

from gsp_deploy.engine.api import installed_runtimes

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

pytestmark = pytest.mark.skipif(
    "tensorrt-lean" not in installed_runtimes(), reason="TensorRT's lean runtime is not installed"
)
PROJECT = Path(__file__).parents[2] / "pyproject.toml"
MOST_DOWNLOADED, MOST_INSTALLED = 150_000_000, 250_000_000
ALONE = """
import importlib.abc, sys
ALLOWED = ("gsp_deploy", "numpy", "cuda", "tensorrt_lean_bindings", "tensorrt_lean_libs")
class Absent(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        top = name.partition(".")[0]
        if top not in sys.stdlib_module_names and top not in ALLOWED and not top.startswith("_"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Absent())
from gsp_deploy.artifact.engine_manifest import read_engine_sidecar
from gsp_deploy.device import open_device
from gsp_deploy.engine.api import load_tensorrt, runtime_for
from gsp_deploy.errors import MissingCapabilityError
from gsp_deploy.runtime import open_session
print(load_tensorrt(runtime_for(read_engine_sidecar(sys.argv[1]))).name)
for action in (lambda: open_device(99), lambda: open_session(sys.argv[1])):
    try:
        action()
    except MissingCapabilityError as error:
        print(error)
"""


def lean_extra() -> list[str]:
    """Return what `pip install 'gsp-deploy[lean]'` asks for."""
    project = tomllib.loads(PROJECT.read_text())["project"]
    return [*project["dependencies"], *project["optional-dependencies"]["lean"]]


@pytest.fixture(scope="module")
def packages() -> dict[str, Distribution]:
    """All packages that a lean install brings beside gsp-deploy itself."""
    found: dict[str, Distribution] = {}
    waiting = lean_extra()
    while waiting:
        needed = Requirement(waiting.pop())
        name = canonicalize_name(needed.name)
        if name in found or not (needed.marker is None or needed.marker.evaluate({"extra": ""})):
            continue
        try:
            found[name] = distribution(name)
        except PackageNotFoundError:
            pytest.skip(f"{name} is not installed: pip install 'gsp-deploy[lean]'")
        waiting += found[name].requires or ()
    return found


def files_of(package: Distribution) -> list[Path]:
    """Return the files of a package's wheel; bytecode is written at installation."""
    files = (Path(str(package.locate_file(file))) for file in package.files or ())
    return [file for file in files if file.suffix != ".pyc" and file.is_file()]


def test_installed_it_takes_a_quarter_of_a_gigabyte_at_most(packages) -> None:
    assert {"numpy", "tensorrt-lean-cu13-libs", "cuda-bindings", "pillow"} <= set(packages)
    assert "cuda-core" not in packages  # cuda-python's other half, which nothing here uses
    sizes = {
        name: sum(file.size or 0 for file in package.files or ())
        for name, package in packages.items()
    }
    assert sum(sizes.values()) < MOST_INSTALLED, sizes


@pytest.mark.slow
def test_its_packages_are_within_150_mb_to_download(packages) -> None:
    """Its wheels are compressed as here, or better; installed they take more, as above."""
    files = [file for package in packages.values() for file in files_of(package)]
    total = sum(len(zlib.compress(file.read_bytes(), 1)) for file in files)
    assert total < MOST_DOWNLOADED, f"{total:,} bytes"


def test_it_opens_an_engine_with_nothing_else_installed(tiny_export: str, tmp_path: Path) -> None:
    device = HostDevice()
    device.profiles = {}  # type: ignore[attr-defined]
    path = tmp_path / "tiny.engine"
    changes = {"version_compatible": True, "lean": True, "tensorrt_version": "10.13.0"}
    write_engine(device, Path(tiny_export), path, **changes)
    command = [sys.executable, "-c", ALONE, str(path)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    runtime, no_device, no_fit = done.stdout.splitlines()
    assert runtime.startswith("TensorRT lean runtime ")
    assert re.search("no usable CUDA device here|cuda:99 was asked for", no_device)
    assert re.search("needs a GPU of compute capability 8.6|built for compute", no_fit)
