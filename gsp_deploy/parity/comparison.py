"""Measure how far two models' outputs are apart, image by image, in float64."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from gsp_deploy.config import GSPConfig
from gsp_deploy.parity.distribution import Distribution, finite
from gsp_deploy.reference import SMALLEST_SHARE_SPREAD, relative_weight_error

_TINY = 1e-30
# An image whose output is smaller than this part of what is usual is measured against that part.
_SMALLEST_SIZE = 1e-2
# An image whose weights spread over less than this part of the head's widest possible spread is
# measured against that part.
_SMALLEST_SPREAD = 0.2


@dataclass(frozen=True, eq=False)
class OutputErrors:
    """Errors of one output.

    Attributes:
        name: of the output.
        absolute: each image's largest |candidate - reference|.
        relative: the same over the image's largest |reference|, but at least a hundredth of what
            the median image has, so that an output near 0 is not measured against itself.
        non_finite: how many of the candidate's values are NaN or infinite.
    """

    name: str
    absolute: Distribution
    relative: Distribution
    non_finite: int

    def to_dict(self) -> dict[str, Any]:
        """Return JSON-able data."""
        return {
            "absolute": self.absolute.to_dict(),
            "relative": self.relative.to_dict(),
            "non_finite": self.non_finite,
        }


@dataclass(frozen=True, eq=False)
class MixingWeightErrors:
    """Errors of the mixing weights, relative to their spread over the image.

    The weights' mean is always 1, and with a small gamma all of them are close to it (0.99 to 1.01
    at gamma = 0.1). An error that is small compared with 1 can then be most of the signal, so it is
    divided by the spread of the image's weights. An image whose locations are alike (a constant
    one, say) has next to no spread; its error is divided by a part of the widest spread that the
    head can give.

    Attributes:
        relative: each image's largest |w - w_ref| over its max w_ref - min w_ref, which counts as
            `smallest_share_spread` / mu at least.
        spread: that max w_ref - min w_ref.
        reference_marginal, candidate_marginal: each image's |mean w - 1|, 0 when solved exactly.
    """

    relative: Distribution
    spread: Distribution
    reference_marginal: Distribution
    candidate_marginal: Distribution

    def to_dict(self) -> dict[str, Any]:
        """Return JSON-able data."""
        return {
            "relative_to_spread": self.relative.to_dict(),
            "median_spread": finite(self.spread.median),
            "reference_marginal_error": finite(self.reference_marginal.maximum),
            "candidate_marginal_error": finite(self.candidate_marginal.maximum),
        }


def output_errors(name: str, reference: np.ndarray, candidate: np.ndarray) -> OutputErrors:
    """Compare one output, `(n, ...)` of each side."""
    expected, found = _rows(reference), _rows(candidate)
    sizes = np.abs(expected).max(axis=1)
    usual = np.median(sizes[np.isfinite(sizes)]) if np.isfinite(sizes).any() else 0.0
    scale = np.maximum(sizes, max(_SMALLEST_SIZE * float(usual), _TINY))
    with np.errstate(invalid="ignore"):
        error = np.abs(found - expected).max(axis=1)
        relative = error / scale
    non_finite = int((~np.isfinite(found)).sum())
    return OutputErrors(name, Distribution(error), Distribution(relative), non_finite)


def mixing_weight_errors(
    reference: np.ndarray, candidate: np.ndarray, head: GSPConfig | None = None
) -> MixingWeightErrors:
    """Compare mixing weights, `(n, H, W)` of each side, of a head; None if it is not known."""
    ratio = 1.0 if head is None else head.transport_ratio
    expected, found = _rows(reference), _rows(candidate)
    spread = np.ptp(expected, axis=1)
    with np.errstate(invalid="ignore"):
        marginals = [np.abs(side.mean(axis=1) - 1) for side in (expected, found)]
    return MixingWeightErrors(
        relative=Distribution(
            relative_weight_error(found, expected, ratio, smallest_share_spread(head))
        ),
        spread=Distribution(spread),
        reference_marginal=Distribution(marginals[0]),
        candidate_marginal=Distribution(marginals[1]),
    )


def smallest_share_spread(head: GSPConfig | None) -> float:
    """Return the smallest spread of shares w mu that an error is divided by.

    Log-masses differ by 2 gamma at most, and so shares by tanh(gamma / 2). A fifth of that is what
    images of some detail exceed.

    >>> round(smallest_share_spread(GSPConfig(8, entropy_weight=5.0)), 3)
    0.197
    """
    if head is None:
        return SMALLEST_SHARE_SPREAD
    return max(SMALLEST_SHARE_SPREAD, _SMALLEST_SPREAD * math.tanh(head.entropy_weight / 2))


def _rows(values: np.ndarray) -> np.ndarray:
    return values.reshape(len(values), -1).astype(np.float64)
