"""Settings of an export, validated before any work starts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import get_args

from gsp_deploy.artifact.pooling_node import POOLING_FORMS, PoolingForm, check_foldable
from gsp_deploy.artifact.tensors import OptionalOutput
from gsp_deploy.base.choices import CalibrationMethod
from gsp_deploy.bounds import DEFAULT_TOLERANCE
from gsp_deploy.config import GSPConfig, ModelConfig, Solver
from gsp_deploy.errors import UsageError, brief
from gsp_deploy.precision import (
    FLOAT_WORDS,
    PRECISIONS,
    WORDS,
    FloatPrecisionWord,
    PrecisionWord,
)

OPSETS = range(17, 23)


@dataclass(frozen=True)
class ExportOptions:
    """Settings of `export_onnx`.

    Args:
        precision: what the backbone and the 1x1 embedding compute in (with int8 the backbone
            alone); cost, solver and pooling are always float32.
        io_precision: element type of float inputs and of the outputs.
        opset: 17 to 22; None means 18, or 22 for bf16, because ONNX has bf16 convolutions only
            since 22.
        dynamic_batch: leave the batch size open.
        dynamic_size: leave height and width open.
        include_preprocessing: take uint8 `(B, H, W, 3)` and normalise in the graph.
        outputs: what to return besides `embedding`. `residual` is each answer's own error estimate;
            with `gap` pooling it also adds `embedding_bound`.
        solver: `certified` (default), with an error bound for every input; `newton`; or the
            paper's `fixed-point`.
        iterations: solver steps. None takes as many as the tolerance needs (certified), as the
            hardest known inputs and the calibration images need (newton), or the checkpoint's own
            number (fixed-point). If you pass a number, nothing is guaranteed.
        tolerance: largest allowed weight error, relative to the spread of the weights.
        external_data: put the weights in a file of their own even below 2 GB.
        calibration_method: how int8 finds the ranges of activations: their extremes, all but
            the outermost values, or the ranges that lose least information.
        pooling_form: `unrolled` into standard operators; `plugin`, one node that a plugin
            computes and that holds the unrolled form for runtimes without it; `plugin-bare`,
            the node alone, for TensorRT 10.3.
        max_drop: points of MAP@R that int8 may lose; layers stay in float32 until it holds.

    Raises:
        UsageError: the combination cannot be exported.
    """

    precision: PrecisionWord = "fp32"
    io_precision: FloatPrecisionWord = "fp32"
    opset: int | None = None
    dynamic_batch: bool = True
    dynamic_size: bool = False
    include_preprocessing: bool = False
    outputs: tuple[OptionalOutput, ...] = ()
    solver: Solver = "certified"
    iterations: int | None = None
    tolerance: float = DEFAULT_TOLERANCE
    external_data: bool = False
    pooling_form: PoolingForm = "unrolled"
    calibration_method: CalibrationMethod = "min-max"
    max_drop: float = 0.5

    def __post_init__(self) -> None:
        _check_word("precision", self.precision, WORDS)
        _check_word("io_precision", self.io_precision, FLOAT_WORDS)
        _check_word("calibration_method", self.calibration_method, get_args(CalibrationMethod))
        _check_word("pooling form", self.pooling_form, POOLING_FORMS)
        for output in self.outputs:
            _check_word("output", output, get_args(OptionalOutput))
        object.__setattr__(self, "outputs", tuple(dict.fromkeys(self.outputs)))
        _check_word("solver", self.solver, get_args(Solver))
        if self.opset is None:
            words = (self.precision, self.io_precision)
            object.__setattr__(self, "opset", max(PRECISIONS[word].opset for word in words))
        if self.opset not in OPSETS:
            raise UsageError(f"opset must be from {OPSETS[0]} to {OPSETS[-1]}, got {self.opset}")
        if self.iterations is not None and not _is_count(self.iterations):
            raise UsageError(
                f"iterations must be a whole number of at least 1, got {brief(self.iterations)}"
            )
        if not 0 < self.tolerance < 1:
            raise UsageError(f"tolerance must be between 0 and 1, got {self.tolerance}")
        if not 0 <= self.max_drop <= 100:
            raise UsageError(f"max_drop must be from 0 to 100 points, got {self.max_drop}")

    def check_against(self, config: ModelConfig) -> None:
        """Raise `UsageError` if a model of this config does not have what the options ask for."""
        if self.outputs and not isinstance(config.head, GSPConfig):
            raise UsageError(
                f"a model with {config.head.in_words} has no {self.outputs[0]}; "
                "leave the output out"
            )
        if self.pooling_form != "unrolled":
            check_foldable(config)
        if self.include_preprocessing and config.is_head_only:
            raise UsageError("a head alone takes feature maps and has no pre-processing to include")
        if PRECISIONS[self.precision].quantised and config.is_head_only:
            raise UsageError(
                f"{self.precision} quantises the backbone, and this model is a head alone, which "
                f"stays in float32; export it as {', '.join(FLOAT_WORDS)}"
            )

    @property
    def operator_set(self) -> int:
        """The opset, with the default filled in."""
        assert self.opset is not None  # filled in by __post_init__
        return self.opset


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


def _check_word(name: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise UsageError(f"{name} must be one of {', '.join(allowed)}, got {value!r}")
