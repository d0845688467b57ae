"""Timing several things side by side: in every round each runs once, and nobody is always first.

Machines drift: a clock slows down, a neighbour wakes up. Things that take turns see the same
drift, so the ratio of two times of one round holds where a ratio of two separate runs does not.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np

from gsp_deploy.benchmark.settings import FEWEST_ROUNDS, BenchmarkSettings

Clock = Callable[[], float]
Task = Callable[[], object]

MILLISECONDS = 1000.0
BRIEF = 30


@dataclass(frozen=True)
class Latency:
    """Percentiles of the times of one task, in milliseconds, interpolated linearly.

    With fewer rounds than 100 the 99th percentile is hardly more than the maximum.
    """

    rounds: int
    min: float
    p50: float
    p90: float
    p95: float
    p99: float
    max: float

    @classmethod
    def of(cls, seconds: np.ndarray) -> Latency:
        """Summarise times `(rounds,)` in seconds."""
        points = np.percentile(seconds, (0, 50, 90, 95, 99, 100)) * MILLISECONDS
        return cls(len(seconds), *(float(point) for point in points))


@dataclass(frozen=True)
class Rounds:
    """How many rounds: a number of them, or a time to fill."""

    warmup: int
    repeats: int
    seconds: float | None = None

    @classmethod
    def of(cls, settings: BenchmarkSettings) -> Rounds:
        """Read the rounds off a benchmark's settings."""
        return cls(settings.warmup, settings.repeats, settings.seconds)

    @classmethod
    def brief(cls, settings: BenchmarkSettings) -> Rounds:
        """Return as many rounds, but few: for what is short, steady and stated as an aside."""
        return cls(settings.warmup, min(settings.repeats, BRIEF))

    def done(self, finished: int, elapsed: float) -> bool:
        """Whether `finished` counted rounds, or the time that they took, are enough."""
        if self.seconds is None:
            return finished >= self.repeats
        return finished >= FEWEST_ROUNDS and elapsed >= self.seconds


def ratio_quartiles(ours: np.ndarray, theirs: np.ndarray) -> tuple[float, float, float]:
    """Return the quartiles of one task's times by another's, round by round: low, median, high."""
    low, median, high = np.percentile(ours / theirs, (25, 50, 75))
    return float(low), float(median), float(high)


def turns(count: int, turn: int) -> list[int]:
    """Return the order of `count` tasks in one round: rotated by one from round to round."""
    return [(turn + position) % count for position in range(count)]


def interleave(
    tasks: Sequence[Task], rounds: Rounds, clock: Clock = time.perf_counter
) -> np.ndarray:
    """Run the tasks in turns and return their times in seconds, `(rounds, tasks)`."""
    for turn in range(rounds.warmup):
        for index in turns(len(tasks), turn):
            tasks[index]()
    times: list[list[float]] = []
    with _no_garbage_collection():
        start = clock()
        while not rounds.done(len(times), clock() - start):
            times.append(_one_round(tasks, len(times), clock))
    return np.array(times)


def _one_round(tasks: Sequence[Task], turn: int, clock: Clock) -> list[float]:
    times = [0.0] * len(tasks)
    for index in turns(len(tasks), turn):
        start = clock()
        tasks[index]()
        times[index] = clock() - start
    return times


@contextmanager
def _no_garbage_collection() -> Iterator[None]:
    """Collect now and not while the clock runs, as `timeit` does."""
    was_enabled = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()
