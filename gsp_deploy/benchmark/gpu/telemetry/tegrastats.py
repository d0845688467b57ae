"""Read the state of a Jetson from the output of tegrastats."""

from __future__ import annotations

import re
import subprocess
import threading
from dataclasses import replace

from gsp_deploy.benchmark.gpu.telemetry.sample import Sample, Source

INTERVAL_MS = 200
# Load in per cent, then one clock or one for each cluster: `37%@[1300,1300]`, `99%@1109`, `@[305]`.
_GPU = re.compile(r"GR3D_FREQ (?:\d+%)?@?\[?(\d+)?")
_MEMORY = re.compile(r"EMC_FREQ (?:\d+%)?@(\d+)")
_HEAT = re.compile(r"\b(?:gpu|GPU)@(-?\d+(?:\.\d+)?)C")
_HOTTEST = re.compile(r"\btj@(-?\d+(?:\.\d+)?)C")
# `VDD_IN 4583mW/4583mW` now and on average; older releases leave out the unit.
_RAIL = re.compile(r"\b((?:VDD|VIN|POM)_?\w*|GPU|CPU|SOC|CV|VDDRQ|SYS5V) (\d+)(?:mW)?/(\d+)(?:mW)?")
_WHOLE = ("VDD_IN", "POM_5V_IN", "VIN")
_OFF_CELSIUS = -200.0  # the reading of a sensor in a block without power
_MILLI = 1e-3


class Tegrastats(Source):
    """Runs tegrastats during the benchmark; its newest line is the current state."""

    name = "tegrastats"

    def __init__(self, program: str) -> None:
        self._program = program
        self._newest = Sample(0.0)
        self._process: subprocess.Popen[str] | None = None
        self._reader: threading.Thread | None = None

    def __enter__(self) -> Tegrastats:
        self._process = subprocess.Popen(
            [self._program, "--interval", str(INTERVAL_MS)], stdout=subprocess.PIPE, text=True
        )
        self._reader = threading.Thread(target=self._follow, daemon=True)
        self._reader.start()
        return self

    def _follow(self) -> None:
        assert self._process is not None
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._newest = parse_line(line, 0.0)

    def __exit__(self, *_: object) -> None:
        assert self._process is not None
        assert self._reader is not None
        self._process.terminate()
        self._process.wait()
        self._reader.join()

    def read(self, seconds: float) -> Sample:
        return replace(self._newest, seconds=seconds)


def parse_line(line: str, seconds: float) -> Sample:
    """Read one line of tegrastats, of any JetPack from 4 to 7; missing values are None."""
    gpu, memory = _GPU.search(line), _MEMORY.search(line)
    heat = _HEAT.search(line) or _HOTTEST.search(line)
    celsius = float(heat[1]) if heat else None
    return Sample(
        seconds,
        gpu_mhz=float(gpu[1]) if gpu and gpu[1] else None,
        memory_mhz=float(memory[1]) if memory else None,
        watts=_watts(line),
        celsius=None if celsius is None or celsius <= _OFF_CELSIUS else celsius,
    )


def _watts(line: str) -> float | None:
    """Return the power of the module: of its input, or else the sum of its rails."""
    rails = {name: float(now) * _MILLI for name, now, _ in _RAIL.findall(line)}
    whole = next((rails[name] for name in _WHOLE if name in rails), None)
    if whole is not None:
        return whole
    return sum(rails.values()) if rails else None
