"""Measure the peak memory of a model in its own process.

In a process with several models you cannot say which model uses which memory, because allocators
keep what one model freed for the next. A fresh process that opens and runs one model shows how much
memory serving it takes.
"""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import gsp_deploy
from gsp_deploy.benchmark.settings import BenchmarkSettings
from gsp_deploy.errors import GspDeployError

PROBE = "gsp_deploy.benchmark.memory_probe"
TIMEOUT_SECONDS = 600


@dataclass(frozen=True)
class MemoryUse:
    """Resident memory of a process in MiB; host memory only, even with a GPU.

    Attributes:
        idle_mb: memory with the runtime imported and no model open.
        peaks_mb: peak memory by batch size; batch sizes run in ascending order, so each value
            includes the smaller ones.
    """

    idle_mb: float
    peaks_mb: dict[int, float]


def measure_memory(
    model: Path, settings: BenchmarkSettings, plugins: Sequence[Path] = ()
) -> MemoryUse:
    """Open and run `model` in a fresh process and return its resident memory.

    Raises:
        GspDeployError: the process failed, for example because memory ran out.
    """
    asked = json.dumps(
        {
            "model": str(model.absolute()),  # a link in a cache has the suffix, its target may not
            "plugins": [str(plugin.absolute()) for plugin in plugins],
            "settings": dataclasses.asdict(settings),
        }
    )
    try:
        done = subprocess.run(
            [sys.executable, "-m", PROBE],
            input=asked,
            capture_output=True,
            text=True,
            timeout=TIMEOUT_SECONDS,
            env={**os.environ, "PYTHONPATH": _with_this_package()},
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise GspDeployError(f"{model.name}: no result after {TIMEOUT_SECONDS} s") from error
    if done.returncode != 0:
        reason = done.stderr.strip().splitlines()[-1:] or [f"exit status {done.returncode}"]
        raise GspDeployError(f"{model.name}: the measuring process failed: {reason[0]}")
    found = json.loads(done.stdout.splitlines()[-1])
    peaks = {int(batch): float(peak) for batch, peak in found["peaks_mb"].items()}
    return MemoryUse(float(found["idle_mb"]), peaks)


def _with_this_package() -> str:
    """Return a PYTHONPATH with which the new process imports the same package as this one."""
    paths = [str(Path(gsp_deploy.__file__).parents[1]), os.environ.get("PYTHONPATH", "")]
    return os.pathsep.join(path for path in paths if path)
