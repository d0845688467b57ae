"""Run a model without pause, and find out if it gets slower as the device gets warm."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from gsp_deploy.benchmark.gpu.telemetry.sample import Sample, Source, Telemetry, summarise
from gsp_deploy.benchmark.timing import Clock, Latency

SAMPLE_SECONDS = 0.2
# Compare this share of a run at its start and at its end.
_EDGE = 0.1
# A run that is slower by more than this share at its end counts as throttled, even if the device
# reports no throttling.
_NOTICEABLE = 0.05


@dataclass(frozen=True)
class Sustained:
    """The result of running one model without pause at one batch size.

    Attributes:
        seconds: length of the run.
        images_per_second: mean over the whole run.
        first, last: images per second in the first and the last tenth of the run.
        latency: of single inferences.
        joules_per_image: energy per image; None if power cannot be measured.
        throttled: the run got slower by more than 5 %, or the device reported throttling.
        telemetry: clocks, power and temperature; None if they cannot be read.
    """

    seconds: float
    images_per_second: float
    first: float
    last: float
    latency: Latency
    joules_per_image: float | None
    throttled: bool
    telemetry: Telemetry | None


def run_sustained(
    task: Callable[[], object],
    batch: int,
    seconds: float,
    source: Source | None,
    clock: Clock = time.perf_counter,
) -> Sustained:
    """Repeat `task`, one inference of `batch` images, for `seconds`."""
    with _Sampler(source, clock) as sampler:
        ends, start = [clock()], clock()
        while ends[-1] - start < seconds:
            task()
            ends.append(clock())
    times = np.diff(ends)
    total = float(times.sum())
    edge = max(1, int(len(times) * _EDGE))
    first, last = (batch / float(np.mean(part)) for part in (times[:edge], times[-edge:]))
    found = sampler.summary()
    joules = None if found is None or found.joules is None else found.joules
    held_down = found is not None and bool(found.throttling)
    return Sustained(
        seconds=total,
        images_per_second=batch * len(times) / total,
        first=first,
        last=last,
        latency=Latency.of(times),
        joules_per_image=None if joules is None else joules / (batch * len(times)),
        throttled=held_down or last < first * (1 - _NOTICEABLE),
        telemetry=found,
    )


class _Sampler:
    """Reads a source in another thread while its block runs."""

    def __init__(self, source: Source | None, clock: Clock) -> None:
        self._source, self._clock = source, clock
        self._samples: list[Sample] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._read_on, daemon=True)
        self._energy: tuple[float | None, float | None] = (None, None)

    def _read(self) -> None:
        assert self._source is not None
        self._samples.append(self._source.read(self._clock()))

    def _read_on(self) -> None:
        while not self._stop.wait(SAMPLE_SECONDS):
            self._read()

    def __enter__(self) -> _Sampler:
        if self._source is not None:
            self._energy = (self._source.energy_joules(), None)
            self._read()
            self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._source is not None:
            self._stop.set()
            self._thread.join()
            self._read()
            self._energy = (self._energy[0], self._source.energy_joules())

    def summary(self) -> Telemetry | None:
        if self._source is None:
            return None
        before, after = self._energy
        counted = None if before is None or after is None else after - before
        return summarise(self._source.name, self._samples, counted)
