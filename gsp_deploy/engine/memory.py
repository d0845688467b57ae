"""Build in little memory with smaller and smaller efforts, and measure a build's peak memory."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from gsp_deploy.engine.api import TensorRT
from gsp_deploy.engine.options import BuildOptions

MIB = 1 << 20
_EXHAUSTED = re.compile(
    r"out ?of ?memory|insufficient memory|bad_alloc|cudaErrorMemoryAllocation|cudaError 2\b"
    r"|could not be allocated|FAILED_ALLOCATION|failed to allocate",
    re.IGNORECASE,
)
_CRAMPED = re.compile(r"workspace", re.IGNORECASE)


@dataclass(frozen=True)
class Effort:
    """How much memory a build may use, and how many kernels it may try.

    Attributes:
        workspace: bytes, or None for TensorRT's own.
        optimization_level: 0 to 5, or None for TensorRT's own.
        tactics: kernels to try for each layer, or None for TensorRT's own.
        weight_streaming: keep weights in host memory until a layer needs them.
    """

    workspace: int | None = None
    optimization_level: int | None = None
    tactics: int | None = None
    weight_streaming: bool = False

    def __str__(self) -> str:
        parts = []
        if self.workspace is not None:
            parts.append(f"workspace {self.workspace // MIB} MiB")
        if self.optimization_level is not None:
            parts.append(f"optimisation level {self.optimization_level}")
        if self.tactics is not None:
            parts.append(f"at most {self.tactics} tactics a layer")
        if self.weight_streaming:
            parts.append("weight streaming")
        return ", ".join(parts) or "TensorRT's own settings"


_RUNGS = (
    Effort(256 * MIB, 2, 16),
    Effort(128 * MIB, 1, 4),
    Effort(64 * MIB, 0, 1, weight_streaming=True),
)


def ladder(options: BuildOptions, tensorrt: TensorRT) -> tuple[Effort, ...]:
    """Return the efforts to try, one after another, while the builder runs out of memory.

    The first is the effort that the options ask for; with `low_memory` it is the first smaller one.
    No effort exceeds the options, or uses a setting that this TensorRT lacks.
    """
    asked = Effort(
        options.workspace, options.optimization_level, None, bool(options.weight_streaming)
    )
    rungs = [_within(rung, asked, tensorrt) for rung in _RUNGS]
    efforts = rungs if options.low_memory else [asked, *rungs]
    return tuple(dict.fromkeys(efforts))


def _within(rung: Effort, asked: Effort, tensorrt: TensorRT) -> Effort:
    limits_tactics = tensorrt.has("IBuilderConfig", "max_num_tactics")
    streams = tensorrt.member("BuilderFlag", "WEIGHT_STREAMING") is not None
    return Effort(
        _least(asked.workspace, rung.workspace),
        _least(asked.optimization_level, rung.optimization_level),
        rung.tactics if limits_tactics else None,
        asked.weight_streaming or (rung.weight_streaming and streams),
    )


def _least(first: int | None, second: int | None) -> int | None:
    given = [value for value in (first, second) if value is not None]
    return min(given) if given else None


def is_out_of_memory(messages: Sequence[str]) -> bool:
    """Whether TensorRT failed because memory ran out."""
    return any(_EXHAUSTED.search(message) for message in messages)


def is_cramped(messages: Sequence[str]) -> bool:
    """Whether TensorRT failed because the workspace is too small for any kernel."""
    return not is_out_of_memory(messages) and any(_CRAMPED.search(line) for line in messages)


class PeakMemory:
    """The most host memory, in bytes, that this process held while the block ran."""

    bytes: int = 0


@contextmanager
def peak_memory(proc: Path = Path("/proc/self")) -> Iterator[PeakMemory]:
    """Measure the process's peak resident memory; 0 if the system does not report it."""
    peak = PeakMemory()
    with suppress(OSError):
        (proc / "clear_refs").write_text("5", encoding="ascii")  # forget the peak so far
    try:
        yield peak
    finally:
        peak.bytes = _high_water(proc)


def _high_water(proc: Path) -> int:
    try:
        text = (proc / "status").read_text(encoding="ascii", errors="replace")
    except OSError:
        return 0
    found = re.search(r"^VmHWM:\s+(\d+) kB", text, re.MULTILINE)
    return int(found[1]) * 1024 if found else 0
