"""One figure per image, and its summary for a report: worst, 99 %, median, histogram."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

# A histogram's bins are decades; an error below the first edge is as good as none.
_DECADES = range(-12, 3)


@dataclass(frozen=True, eq=False)
class Distribution:
    """Errors by image; 0 is perfect, and NaN counts as infinite.

    Args:
        values: `(n,)`, n at least 1, in the images' order.
    """

    values: np.ndarray

    def __post_init__(self) -> None:
        values = np.asarray(self.values, dtype=np.float64)
        object.__setattr__(self, "values", np.where(np.isnan(values), np.inf, values))

    @property
    def maximum(self) -> float:
        """The worst image's figure."""
        return float(self.values.max())

    @property
    def worst_image(self) -> int:
        """Which image that is."""
        return int(self.values.argmax())

    @property
    def tail(self) -> float:
        """The figure that 99 % of the images do not exceed."""
        return self._quantile(0.99)

    @property
    def median(self) -> float:
        """The figure that half of the images do not exceed."""
        return self._quantile(0.5)

    def histogram(self) -> tuple[np.ndarray, np.ndarray]:
        """Return decade edges `(k,)` and counts `(k + 1,)`: below the first, between, above."""
        edges = np.array([10.0**decade for decade in _DECADES])
        places = np.searchsorted(edges, self.values, side="right")
        return edges, np.bincount(places, minlength=len(edges) + 1)

    def to_dict(self) -> dict[str, Any]:
        """Return maximum, 99 %, median, worst image and histogram as JSON-able data."""
        edges, counts = self.histogram()
        return {
            "max": finite(self.maximum),
            "p99": finite(self.tail),
            "median": finite(self.median),
            "worst_image": self.worst_image,
            "histogram": {"edges": edges.tolist(), "counts": counts.tolist()},
        }

    def _quantile(self, share: float) -> float:
        # Take an observed value: interpolation towards an infinite one would be infinite.
        return float(np.quantile(self.values, share, method="higher"))


def finite(value: float) -> float | None:
    """Return the value, or None if it is NaN or infinite, which JSON cannot hold."""
    return float(value) if math.isfinite(value) else None
