"""Time several tasks in turns: in every round each runs once, and each is first equally often.

Machines drift: a clock slows down, another process starts. Tasks that take turns see the same
drift, so the ratio of two times in one round is reliable. The ratio of two separate runs is not.
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
# Rounds for secondary figures such as copies, which are short and steady.
BRIEF = 30


@dataclass(frozen=True)
class Latency:
    """Percentiles of the times of one task, in milliseconds, interpolated linearly.

    With fewer than 100 rounds the 99th percentile is close to the maximum.
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
        """Summarise times `(rounds,)` in seconds.

        >>> Latency.of(np.array([0.001, 0.002, 0.003])).p50
        2.0
        """
        points = np.percentile(seconds, (0, 50, 90, 95, 99, 100)) * MILLISECONDS
        return cls(len(seconds), *(float(point) for point in points))


@dataclass(frozen=True)
class Rounds:
    """How many rounds to run: a number, or for how many seconds."""

    warmup: int
    repeats: int
    seconds: float | None = None

    @classmethod
    def of(cls, settings: BenchmarkSettings) -> Rounds:
        """Return the rounds that a benchmark's settings ask for."""
        return cls(settings.warmup, settings.repeats, settings.seconds)

    @classmethod
    def brief(cls, settings: BenchmarkSettings) -> Rounds:
        """Return at most `BRIEF` rounds, for secondary figures."""
        return cls(settings.warmup, min(settings.repeats, BRIEF))

    def done(self, finished: int, elapsed: float) -> bool:
        """Whether `finished` rounds in `elapsed` seconds are enough."""
        if self.seconds is None:
            return finished >= self.repeats
        return finished >= FEWEST_ROUNDS and elapsed >= self.seconds


def ratio_quartiles(times: np.ndarray, baseline: np.ndarray) -> tuple[float, float, float]:
    """Return quartiles of `times / baseline`, round by round: low, median, high.

    >>> ratio_quartiles(np.array([2.0, 3.0, 8.0]), np.array([1.0, 1.0, 2.0]))
    (2.5, 3.0, 3.5)
    """
    low, median, high = np.percentile(times / baseline, (25, 50, 75))
    return float(low), float(median), float(high)


def turns(count: int, turn: int) -> list[int]:
    """Return the order of `count` tasks in round `turn`: each round rotates the order by one.

    >>> turns(3, 0), turns(3, 1)
    ([0, 1, 2], [1, 2, 0])
    """
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
    """Collect garbage now and disable collection while the clock runs, as `timeit` does."""
    was_enabled = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()
