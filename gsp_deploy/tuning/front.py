"""Turn measurements into points, find the Pareto front, and choose a point."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import median

from gsp_deploy.base.words import counted
from gsp_deploy.errors import GateError, UsageError
from gsp_deploy.tuning.space import Candidate
from gsp_deploy.tuning.study import Speed, Study


@dataclass(frozen=True)
class Point:
    """One candidate at one batch size.

    Attributes:
        candidate: the form of the model.
        solver_steps: steps of the exported solver; None if there is no solver.
        batch: images per inference.
        map_at_r, recall_at_1: in points of 100.
        drop: points of MAP@R below the reference; negative if it is above.
        speed: relative to the reference in the same rounds; None if the precision is emulated,
            because then the time has no meaning.
        latency_ms: time of one inference: the ratio times the reference's median over all
            candidates' rounds. So a machine that drifts does not favour a candidate.
    """

    candidate: Candidate
    solver_steps: int | None
    batch: int
    map_at_r: float
    recall_at_1: float
    drop: float
    speed: Speed | None
    latency_ms: float | None

    @property
    def form(self) -> str:
        """A short description of the candidate: `fp16, 224 px, 2 steps`."""
        form = f"{self.candidate.precision}, {self.candidate.size} px"
        if self.solver_steps is not None:
            form += f", {counted(self.solver_steps, 'step')}"
        return form if self.candidate.runtime == "onnxruntime" else f"{form}, OpenVINO"

    @property
    def images_per_second(self) -> float | None:
        """Throughput of one stream of inferences; None if the latency is None."""
        return None if self.latency_ms is None else 1000 * self.batch / self.latency_ms


@dataclass(frozen=True)
class Limits:
    """Limits for the choice of a point.

    Args:
        max_latency: largest time of one inference in ms; None for no limit.
        max_drop: most points of MAP@R below the reference; None for no limit.

    Raises:
        UsageError: `max_latency` is not above 0 and finite, or `max_drop` is not from 0 to 100.
    """

    max_latency: float | None = None
    max_drop: float | None = None

    def __post_init__(self) -> None:
        if self.max_latency is not None and not 0 < self.max_latency < float("inf"):
            raise UsageError(f"the latency allowed must be above 0 ms, got {self.max_latency}")
        if self.max_drop is not None and not 0 <= self.max_drop <= 100:
            raise UsageError(f"the drop allowed must be from 0 to 100 points, got {self.max_drop}")

    @property
    def are_given(self) -> bool:
        """Whether there is any limit."""
        return self.max_latency is not None or self.max_drop is not None

    def hold_latency(self, point: Point) -> bool:
        """Whether a timed point is fast enough."""
        limit = float("inf") if self.max_latency is None else self.max_latency
        return point.latency_ms is not None and point.latency_ms <= limit

    def hold_drop(self, point: Point) -> bool:
        """Whether a point is accurate enough."""
        return self.max_drop is None or point.drop <= self.max_drop


def points_of(
    study: Study, candidates: Sequence[Candidate], batches: Sequence[int]
) -> tuple[Point, ...]:
    """Return a point for each measured candidate and batch size, the reference first."""
    reference = study.qualities[candidates[0].name]
    points = []
    for batch in batches:
        pace = median(s[batch].reference_p50 for s in study.speeds.values() if batch in s)
        for candidate in candidates:
            quality = study.qualities.get(candidate.name)
            if quality is None or candidate.name in study.failures:
                continue
            speed = study.speeds.get(candidate.name, {}).get(batch)
            points.append(
                Point(
                    candidate,
                    quality.solver_steps,
                    batch,
                    quality.map_at_r,
                    quality.recall_at_1,
                    reference.map_at_r - quality.map_at_r,
                    speed,
                    None if speed is None else speed.ratio * pace,
                )
            )
    return tuple(points)


def front_of(points: Iterable[Point]) -> tuple[Point, ...]:
    """Return the Pareto front of each batch size, fastest point first.

    A point is left out if another of its batch size is at least as fast and at least as accurate.
    """
    front: list[Point] = []
    timed = [point for point in points if point.latency_ms is not None]
    for point in sorted(timed, key=lambda p: (p.batch, p.latency_ms, -p.map_at_r)):
        if not front or front[-1].batch != point.batch or point.map_at_r > front[-1].map_at_r:
            front.append(point)
    return tuple(front)


def choose(points: Sequence[Point], limits: Limits) -> Point:
    """Return the best point within the limits.

    If latency is limited, the best point is the most accurate one, and of equals the one with more
    images per second. Otherwise it is the one with the most images per second, and of equals the
    more accurate one.

    Raises:
        GateError: no timed point is within both limits.
    """
    timed = [point for point in points if point.latency_ms is not None]
    within = [p for p in timed if limits.hold_latency(p) and limits.hold_drop(p)]
    if not within:
        raise GateError(_why_none(timed, limits))
    if limits.max_latency is not None:
        return max(within, key=lambda p: (p.map_at_r, p.images_per_second))
    return max(within, key=lambda p: (p.images_per_second, p.map_at_r))


def _why_none(timed: Sequence[Point], limits: Limits) -> str:
    """Return an error line with the candidates that are closest to the limits."""
    asked = []
    if limits.max_latency is not None:
        asked.append(f"{limits.max_latency:g} ms")
    if limits.max_drop is not None:
        asked.append(f"{limits.max_drop:g} points of MAP@R")
    near = []
    if accurate := [point for point in timed if limits.hold_drop(point)]:
        best = min(accurate, key=lambda p: p.latency_ms or 0)
        near.append(f"the fastest that is accurate enough takes {best.latency_ms:.3g} ms")
    if fast := [point for point in timed if limits.hold_latency(point)]:
        best = min(fast, key=lambda p: p.drop)
        near.append(f"the most accurate that is fast enough loses {best.drop:.3g} points")
    if not near:
        best = min(timed, key=lambda p: p.latency_ms or 0)
        near.append(f"the fastest takes {best.latency_ms:.3g} ms and loses {best.drop:.3g} points")
    return (
        f"no candidate is within {' and '.join(asked)}: {'; '.join(near)}; allow more, or try "
        "other sizes, precisions or batches"
    )
