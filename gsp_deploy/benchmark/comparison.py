"""Compare two benchmark results, if both measured the same models in the same way."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import get_args

from gsp_deploy.base.choices import GatedFigure
from gsp_deploy.benchmark.report import BatchResult, BenchmarkReport, ModelResult
from gsp_deploy.benchmark.settings import BenchmarkSettings
from gsp_deploy.errors import GateError, UsageError

RATIO = "ratio to GAP"
LATENCY = "p50 in ms"
# These must be equal for two results to be of the same model. Solver steps, weights and versions
# may differ, because a comparison shows their effect.
_IDENTITY = ("precision", "device", "input", "backbone")
_FREE_IN_HEAD = ("solver", "iterations")
_MACHINE = ("processor", "cores", "system")


@dataclass(frozen=True)
class Change:
    """One gated figure in the old and in the new result."""

    model: str
    batch: int
    measure: str
    before: float
    now: float

    @property
    def relative(self) -> float:
        """Growth as a share of the old value; below 0 is an improvement."""
        return self.now / self.before - 1


@dataclass(frozen=True)
class Comparison:
    """All gated figures of two results, and how much each figure may grow."""

    changes: tuple[Change, ...]
    max_regression: float

    @property
    def regressions(self) -> tuple[Change, ...]:
        """The figures that grew by more than `max_regression`."""
        return tuple(change for change in self.changes if change.relative > self.max_regression)

    def check(self) -> None:
        """Raise `GateError` for the worst regression, if there is one."""
        if not self.regressions:
            return
        worst = max(self.regressions, key=lambda change: change.relative)
        raise GateError(
            f"{worst.model}, batch {worst.batch}: {worst.measure} went from {worst.before:.3f} to "
            f"{worst.now:.3f} ({worst.relative:+.1%}), beyond {self.max_regression:.1%}; "
            f"{len(self.regressions)} of {len(self.changes)} figures regressed"
        )

    def to_dict(self) -> dict[str, object]:
        """Return plain JSON-able data."""
        return {
            "max_regression": self.max_regression,
            "passed": not self.regressions,
            "changes": [{**asdict(change), "relative": change.relative} for change in self.changes],
        }


def compare(
    old: BenchmarkReport, new: BenchmarkReport, max_regression: float, gate: GatedFigure = "ratio"
) -> Comparison:
    """Compare two results figure by figure.

    If a model has a twin, its gated figure is the ratio of its time to the twin's. Both run in the
    same rounds, so the ratio stays the same on a noisy machine, while milliseconds do not. It
    shows the cost of the pooling, and does not change if something slows down both. If a model has
    no twin, its gated figure is its p50. `gate="latency"` compares the p50 of all models.

    Raises:
        UsageError: settings, machine or models differ; the error names the first difference.
    """
    if gate not in get_args(GatedFigure):
        raise UsageError(f"gate must be one of {', '.join(get_args(GatedFigure))}, got {gate!r}")
    check_settings(old.settings, new.settings)
    for difference in (*_machine_differences(old, new), *_model_differences(old, new)):
        raise UsageError(f"the two results do not compare: {difference}")
    changes = tuple(
        _change(before.name, was, now, gate)
        for before, after in zip(old.models, new.models, strict=True)
        for was, now in zip(before.batches, after.batches, strict=True)
    )
    return Comparison(changes, max_regression)


def check_settings(old: BenchmarkSettings, new: BenchmarkSettings) -> None:
    """Raise `UsageError` with the names of the settings that differ between two benchmarks."""
    now = asdict(new)
    changed = [
        f"{name} was {_in_words(before)}, now it is {_in_words(now[name])}"
        for name, before in asdict(old).items()
        if before != now[name]
    ]
    if changed:
        raise UsageError(
            f"the two results do not compare: {'; '.join(changed)}; "
            "measure with the old settings, or save a new result"
        )


def _in_words(setting: object) -> str:
    """Return a setting as you type it, such as `1,8`, or `left out` for None."""
    if isinstance(setting, tuple):
        return ",".join(map(str, setting))
    return "left out" if setting is None else str(setting)


def _machine_differences(old: BenchmarkReport, new: BenchmarkReport) -> Iterator[str]:
    for name in _MACHINE:
        before, now = getattr(old.environment, name), getattr(new.environment, name)
        if before != now:
            yield f"{name} was {before}, now it is {now}"


def _model_differences(old: BenchmarkReport, new: BenchmarkReport) -> Iterator[str]:
    names = [[model.name for model in report.models] for report in (old, new)]
    if names[0] != names[1]:
        yield f"models were {', '.join(names[0])}, now they are {', '.join(names[1])}"
        return
    for before, after in zip(old.models, new.models, strict=True):
        for name, was, now in _identity_pairs(before, after):
            if was != now:
                yield f"{name} of {before.name} was {was}, now it is {now}"


def _identity_pairs(
    before: ModelResult, after: ModelResult
) -> Iterator[tuple[str, object, object]]:
    yield "runtime", before.runtime.split()[0], after.runtime.split()[0]
    for name in _IDENTITY:
        yield name, getattr(before, name), getattr(after, name)
    heads = before.head or {}, after.head or {}
    for name in sorted({*heads[0], *heads[1]} - {*_FREE_IN_HEAD}):
        yield f"head.{name}", heads[0].get(name), heads[1].get(name)
    yield "has_twin", before.no_twin is None, after.no_twin is None


def _change(name: str, was: BatchResult, now: BatchResult, gate: GatedFigure) -> Change:
    if gate == "ratio" and was.pooling_cost is not None and now.pooling_cost is not None:
        ratios = was.pooling_cost.ratio, now.pooling_cost.ratio
        return Change(name, was.batch, RATIO, *ratios)
    return Change(name, was.batch, LATENCY, was.latency.p50, now.latency.p50)
