"""One reading of a GPU's state, and the summary of many."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np


@dataclass(frozen=True)
class Sample:
    """One reading; a value is None if the source does not report it.

    Attributes:
        seconds: time of the reading, by the clock of the benchmark.
        gpu_mhz, memory_mhz: clocks.
        watts: power of the card, or of a Jetson's whole module.
        celsius: temperature of the GPU.
        throttling: why the clocks are throttled, in words; empty if they are not.
    """

    seconds: float
    gpu_mhz: float | None = None
    memory_mhz: float | None = None
    watts: float | None = None
    celsius: float | None = None
    throttling: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "throttling", tuple(self.throttling))


class Source(ABC):
    """A source of readings.

    Attributes:
        name: name of the source, for the report.
    """

    name: str

    @abstractmethod
    def read(self, seconds: float) -> Sample:
        """Return the current state; `seconds` is the time on the caller's clock."""

    def energy_joules(self) -> float | None:
        """Return the device's energy counter in joules, or None if there is none."""
        return None


@dataclass(frozen=True)
class Telemetry:
    """Summary of the readings of one run; a value is None if there were no readings for it.

    Attributes:
        source: name of the source.
        samples: number of readings.
        gpu_mhz: minimum, median and maximum clock.
        celsius: temperature at the start, and the maximum.
        watts: mean power over the run.
        joules: energy of the run, from the device's counter or as power over time.
        throttling: share of the readings with each reason, largest first.
    """

    source: str
    samples: int
    gpu_mhz: tuple[float, ...] | None
    celsius: tuple[float, ...] | None
    watts: float | None
    joules: float | None
    throttling: dict[str, float]


def summarise(source: str, samples: Sequence[Sample], counted: float | None) -> Telemetry:
    """Summarise the readings of a run; `counted` is the energy by the device's counter, if any."""
    clocks = [s.gpu_mhz for s in samples if s.gpu_mhz is not None]
    heat = [s.celsius for s in samples if s.celsius is not None]
    power = [(s.seconds, s.watts) for s in samples if s.watts is not None]
    reasons = Counter(reason for s in samples for reason in s.throttling)
    spent = _energy(power) if power else None
    span = power[-1][0] - power[0][0] if power else 0.0
    joules = spent if counted is None else counted
    return Telemetry(
        source=source,
        samples=len(samples),
        gpu_mhz=(min(clocks), float(np.median(clocks)), max(clocks)) if clocks else None,
        celsius=(heat[0], max(heat)) if heat else None,
        watts=spent / span if spent is not None and span > 0 else None,
        joules=joules if joules else None,
        throttling={name: count / len(samples) for name, count in reasons.most_common()},
    )


def _energy(power: Sequence[tuple[float, float]]) -> float:
    """Return the energy in joules: seconds and watts integrated by the trapezoidal rule.

    >>> _energy([(0.0, 10.0), (2.0, 20.0)])
    30.0
    """
    pairs = pairwise(power)
    return sum((t1 - t0) * (w0 + w1) / 2 for (t0, w0), (t1, w1) in pairs)
