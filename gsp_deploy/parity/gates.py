"""Compare each figure of a comparison with its limit: these are the gates."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from gsp_deploy.parity.distribution import finite
from gsp_deploy.parity.figures import ParityFigures
from gsp_deploy.precision import Tolerances

# So that rounding does not put one image of n above a limit of one image of n.
_ROUNDING = 1e-9


@dataclass(frozen=True)
class Gate:
    """One figure and its limit.

    Attributes:
        name: the limit's name in `Tolerances`, from which the command's option derives.
        title: the figure's name in reports.
        value: the measured figure.
        limit: its largest allowed value (smallest, if the name starts with `min`).
    """

    name: str
    title: str
    value: float
    limit: float

    @property
    def is_minimum(self) -> bool:
        """Whether the limit is a minimum."""
        return self.name.startswith("min_")

    @property
    def passed(self) -> bool:
        """Whether the value is within the limit; NaN never is."""
        if self.is_minimum:
            return bool(self.value >= self.limit * (1 - _ROUNDING))
        return bool(self.value <= self.limit * (1 + _ROUNDING))

    def __str__(self) -> str:
        """Return the gate as `title 3.1e-02, expected at most 5e-03`."""
        bound = "at least" if self.is_minimum else "at most"
        return f"{self.title} {figure(self.value)}, expected {bound} {figure(self.limit)}"

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Gate:
        """Read the result of `to_dict`; a figure that JSON cannot hold becomes the worst value."""
        name = str(data["name"])
        worst = -math.inf if name.startswith("min_") else math.inf
        value, limit = data["value"], data["limit"]
        return cls(
            name,
            str(data["title"]),
            worst if value is None else float(value),
            math.inf if limit is None else float(limit),
        )

    def to_dict(self) -> dict[str, Any]:
        """Return JSON-able data."""
        return {
            "name": self.name,
            "title": self.title,
            "value": finite(self.value),
            "limit": finite(self.limit),
            "passed": self.passed,
        }


def figure(value: float) -> str:
    """Write a figure with three digits, as a decimal or with an exponent by its size."""
    if value == 0 or not math.isfinite(value):
        return f"{value:g}"
    return f"{value:.3g}" if 1e-3 <= abs(value) < 1e4 else f"{value:.1e}"


def hold_gates(figures: ParityFigures, limits: Tolerances) -> tuple[Gate, ...]:
    """Return the gates for all figures that were measured."""
    return (*_output_gates(figures, limits), *_retrieval_gates(figures, limits))


def _output_gates(figures: ParityFigures, limits: Tolerances) -> Iterator[Gate]:
    broken = sum(errors.non_finite for errors in figures.outputs)
    yield Gate("finite", "NaN or infinite values", broken, 0)
    yield Gate(
        "max_cosine_distance", "cosine distance", figures.cosine.maximum, limits.max_cosine_distance
    )
    for errors in figures.outputs:
        if errors.name == "embedding":
            worst = errors.relative.maximum
            yield Gate("max_embedding_error", "embedding error", worst, limits.max_embedding_error)
        elif errors.name == "attributes":
            worst = errors.relative.maximum
            yield Gate("max_attribute_error", "attribute error", worst, limits.max_attribute_error)
    if figures.weights is not None:
        yield Gate(
            "max_weight_error",
            "weight error / spread",
            figures.weights.relative.maximum,
            limits.max_weight_error,
        )
        yield Gate(
            "max_marginal_error",
            "marginal error |mean w - 1|",
            figures.weights.candidate_marginal.maximum,
            limits.max_marginal_error,
        )
    batch = figures.invariance
    yield Gate(
        "max_batch_error", "change with batch position", batch.position_error,
        limits.max_batch_error,
    )  # fmt: skip
    yield Gate("max_leak", "leak from batch neighbours", batch.leak, limits.max_leak)


def _retrieval_gates(figures: ParityFigures, limits: Tolerances) -> Iterator[Gate]:
    agreement = figures.retrieval
    if agreement is None:
        return
    rank, overlap = max(agreement.overlap_at.items())
    flips = at_least_one_image(limits.max_flips, agreement.queries)
    yield Gate("max_flips", "top-1 flips", agreement.flip_share, flips)
    yield Gate("min_overlap", f"neighbour overlap@{rank}", overlap, limits.min_overlap)
    if not math.isnan(agreement.recall_change):
        drop = max(0.0, -agreement.recall_change)
        limit = at_least_one_image(limits.max_recall_drop, agreement.queries)
        yield Gate("max_recall_drop", "R@1 lost", drop, limit)
        drop = max(0.0, -agreement.map_change)
        limit = at_least_one_image(limits.max_map_drop, agreement.queries)
        yield Gate("max_map_drop", "MAP@R lost", drop, limit)


def at_least_one_image(share: float, queries: int) -> float:
    """Raise a limit on a share to one image, unless the limit is 0."""
    return max(share, 1 / queries) if share > 0 else 0.0
