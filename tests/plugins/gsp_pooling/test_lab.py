"""The lab builds with make alone, and says plainly that there is no device."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from .building import KERNEL
from .resources import NVCC

NO_DEVICE = 4


@pytest.mark.slow
@pytest.mark.skipif(NVCC is None or shutil.which("make") is None, reason="needs nvcc and make")
def test_it_builds_with_make_and_checks_its_reference_without_a_device(tmp_path: Path) -> None:
    source = tmp_path / "gsp_pooling"
    shutil.copytree(KERNEL, source, ignore=shutil.ignore_patterns("build"))
    subprocess.run(
        ["make", "-j2", "-C", source / "lab", "ARCH=sm_80"], check=True, capture_output=True
    )
    lab = source / "lab" / "build" / "lab"
    done = subprocess.run([lab, "--correctness"], capture_output=True, text=True, check=False)
    assert "the CPU reference holds its laws" in done.stdout
    if done.returncode == 0:
        pytest.skip("there is a device: the lab found every version right")
    assert done.returncode == NO_DEVICE
    assert done.stderr.startswith("lab: no CUDA device")
    assert subprocess.run([lab, "--fast"], capture_output=True, check=False).returncode == 2
