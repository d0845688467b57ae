"""The candidates to try: each combination of precision, solver steps, input size and runtime."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import product

from gsp_deploy.base.choices import RuntimeWord
from gsp_deploy.config import GSPConfig, ModelConfig, PreprocessingSpec
from gsp_deploy.errors import UsageError
from gsp_deploy.precision import WORDS, PrecisionWord, precision_named
from gsp_deploy.runtime.session import RUNTIME_WORDS

CERTIFIED = "certified"
# The default sizes, as shares of the model's own, rounded to a multiple of `_MULTIPLE` pixels.
_SHARES = (1.0, 0.875, 0.75)
_MULTIPLE = 16


@dataclass(frozen=True)
class Candidate:
    """One form of the model.

    Attributes:
        precision: precision of the backbone.
        steps: steps of the solver; None for the number that the export certifies, and for heads
            without a solver.
        size: height of the input in pixels; the width keeps its proportion.
        runtime: what runs the export.
    """

    precision: PrecisionWord
    steps: int | None
    size: int
    runtime: RuntimeWord = "onnxruntime"

    @property
    def file_name(self) -> str:
        """The name of the candidate's export, which all runtimes share."""
        return f"{self.precision}-{self.size}px-{self.steps or CERTIFIED}"

    @property
    def name(self) -> str:
        """The name of the candidate's records."""
        return self.file_name if self.runtime == "onnxruntime" else f"{self.file_name}-openvino"

    def preprocessing(self, spec: PreprocessingSpec) -> PreprocessingSpec:
        """Return the model's pre-processing at this candidate's size."""
        return replace(spec, height=self.size, width=round(spec.width * self.size / spec.height))


@dataclass(frozen=True)
class TuningSpace:
    """The combinations to try, in addition to the reference.

    Args:
        precisions: any of `fp32`, `fp16`, `bf16`, `int8`.
        steps: numbers of solver steps; None for the certified number.
        sizes: heights of the input; empty for the model's own height, 7/8 and 3/4 of it.
        runtimes: `onnxruntime`, `openvino`, or both. The reference runs in ONNX Runtime.

    Raises:
        UsageError: a value is outside its domain, or is given twice.
    """

    precisions: tuple[PrecisionWord, ...] = WORDS
    steps: tuple[int | None, ...] = (None, 1)
    sizes: tuple[int, ...] = ()
    runtimes: tuple[RuntimeWord, ...] = ("onnxruntime",)

    def __post_init__(self) -> None:
        for precision in self.precisions:
            precision_named(precision)
        for runtime in self.runtimes:
            if runtime not in RUNTIME_WORDS:
                raise UsageError(
                    f"runtime must be one of {', '.join(RUNTIME_WORDS)}, got {runtime!r}"
                )
        if not self.precisions or not self.steps or not self.runtimes:
            raise UsageError("expected at least one precision, number of steps and runtime")
        for name, values in (("steps", self.steps), ("size", self.sizes)):
            if any(value is not None and value < 1 for value in values):
                raise UsageError(f"{name} must be at least 1, got {list(values)}")
        for tried in ([*self.precisions], [*self.steps], [*self.sizes], [*self.runtimes]):
            if len(set(tried)) < len(tried):
                raise UsageError(f"expected different values, got {tried}")

    def candidates(self, config: ModelConfig, has_one_size: bool = False) -> Iterator[Candidate]:
        """Yield the reference first, then every other combination, certified steps first.

        Raises:
            UsageError: the model is a head alone, or has one size and others are asked for.
        """
        reference = reference_of(config)
        if has_one_size and any(size != reference.size for size in self.sizes):
            raise UsageError(
                f"{config.backbone} takes images of {reference.size} pixels only; leave --size out"
            )
        yield reference
        has_solver = isinstance(config.head, GSPConfig) and config.head.transport_ratio < 1
        steps = sorted(self.steps, key=lambda s: s or 0) if has_solver else [None]
        usual = [reference.size] if has_one_size else _usual_sizes(reference.size)
        for size, precision, count in product(self.sizes or usual, self.precisions, steps):
            for runtime in self.runtimes:
                candidate = Candidate(precision, count, size, runtime)
                if candidate != reference:
                    yield candidate


def reference_of(config: ModelConfig) -> Candidate:
    """Return the reference for drops and ratios: float32, certified steps, the model's own size.

    Raises:
        UsageError: the model is a head alone.
    """
    if config.preprocessing is None:
        raise UsageError(
            "expected a model that takes images, got a head alone, which takes features; tune a "
            "checkpoint with its backbone"
        )
    return Candidate("fp32", None, config.preprocessing.height)


def _usual_sizes(own: int) -> list[int]:
    rounded = [max(_MULTIPLE, _MULTIPLE * round(own * share / _MULTIPLE)) for share in _SHARES[1:]]
    return list(dict.fromkeys([own, *rounded]))
