"""What is tried: precisions, solver steps and input sizes, each combination a candidate."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from gsp_deploy.config import GSPConfig, ModelConfig, PreprocessingSpec
from gsp_deploy.errors import UsageError
from gsp_deploy.precision import WORDS, PrecisionWord, precision_named

CERTIFIED = "certified"
# Sizes that are tried unasked, as shares of the model's own.
_SHARES = (1.0, 0.875, 0.75)
_MULTIPLE = 16


@dataclass(frozen=True)
class Candidate:
    """One form of the model.

    Attributes:
        precision: of the backbone.
        steps: of the solver; None for those that the export guarantees, and for heads
            without a solver.
        size: height of the input in pixels; the width keeps its proportion.
    """

    precision: PrecisionWord
    steps: int | None
    size: int

    @property
    def name(self) -> str:
        """Return what the candidate's files and records are called."""
        return f"{self.precision}-{self.size}px-{self.steps or CERTIFIED}"

    def preprocessing(self, spec: PreprocessingSpec) -> PreprocessingSpec:
        """Return the model's pre-processing at this candidate's size."""
        return replace(spec, height=self.size, width=round(spec.width * self.size / spec.height))


@dataclass(frozen=True)
class TuningSpace:
    """The combinations that are tried, beside the reference.

    Args:
        precisions: of `fp32`, `fp16`, `bf16`, `int8`.
        steps: numbers of solver steps; None stands for the certified number.
        sizes: heights of the input; empty takes the model's own, 7/8 and 3/4 of it.

    Raises:
        UsageError: a value is outside its domain, or given twice.
    """

    precisions: tuple[PrecisionWord, ...] = WORDS
    steps: tuple[int | None, ...] = (None, 1)
    sizes: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        for precision in self.precisions:
            precision_named(precision)
        if not self.precisions or not self.steps:
            raise UsageError("expected at least one precision and one number of steps")
        for name, values in (("steps", self.steps), ("size", self.sizes)):
            if any(value is not None and value < 1 for value in values):
                raise UsageError(f"{name} must be at least 1, got {list(values)}")
        for tried in ([*self.precisions], [*self.steps], [*self.sizes]):
            if len(set(tried)) < len(tried):
                raise UsageError(f"each value is tried once, got {tried}")

    def candidates(self, config: ModelConfig) -> Iterator[Candidate]:
        """Yield the reference first, then every other combination, certified steps first."""
        reference = reference_of(config)
        yield reference
        has_solver = isinstance(config.head, GSPConfig) and config.head.transport_ratio < 1
        steps = sorted(self.steps, key=lambda s: s or 0) if has_solver else [None]
        for size in self.sizes or _usual_sizes(reference.size):
            for precision in self.precisions:
                for count in steps:
                    candidate = Candidate(precision, count, size)
                    if candidate != reference:
                        yield candidate


def reference_of(config: ModelConfig) -> Candidate:
    """Return what drops and ratios refer to: float32, certified, the model's own size."""
    if config.preprocessing is None:
        raise UsageError(
            "a head alone takes features, not images; tune a checkpoint with its backbone"
        )
    return Candidate("fp32", None, config.preprocessing.height)


def _usual_sizes(own: int) -> list[int]:
    rounded = [max(_MULTIPLE, _MULTIPLE * round(own * share / _MULTIPLE)) for share in _SHARES[1:]]
    return list(dict.fromkeys([own, *rounded]))
