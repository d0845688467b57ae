"""The kit for a machine with a GPU is whole and small, and its script runs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "benchmarks" / "gpu_kit.py"
MOST_BYTES = 60_000_000
LAB_BYTES = 23_136_648  # as nvcc 13.0 made it for all nine targets


@pytest.mark.slow
def test_the_kit_runs_where_no_gpu_is(tmp_path: Path) -> None:
    kit = tmp_path / "kit"
    command = [sys.executable, SCRIPT, kit, "--without-lab"]
    made = subprocess.run(command, capture_output=True, text=True)
    assert made.returncode == 0, made.stderr
    size = sum(file.stat().st_size for file in kit.rglob("*") if file.is_file())
    assert size + LAB_BYTES < MOST_BYTES
    environment = {**os.environ, "PYTHON": sys.executable}
    done = subprocess.run([kit / "run.sh"], env=environment, capture_output=True, text=True)
    if Path("/dev/nvidia0").exists():
        pytest.skip("this machine has a GPU: run the kit itself")
    assert done.returncode == 0, done.stderr
    found = json.loads((kit / "proof.json").read_text())
    assert found["is_rehearsal"] is False
    states = {one["name"]: one["state"] for one in found["findings"]}
    assert states["pooling kernel"] == states["tests on the device"] == "not run"
    assert (kit / "proof.md").is_file()
    again = subprocess.run(command, capture_output=True, text=True)
    assert again.returncode == 1
    assert again.stderr.endswith("exists; remove it first\n")
