"""What the recall of an approximate index is, and its interval.

It is measured on queries that the index does not contain. A query that is in the index finds
itself, and a graph or a cell was built around it, so it flatters the index.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

RANK = 10
METHOD = (
    "The queries were held out: the index was built without them and searched with them, and they "
    "were added afterwards. A neighbour counts if exact search by the same cosine also returns it "
    "or a tie. Intervals are Wilson's, at 95 %, over the queries."
)
TIE = 1e-6  # cosines this close tie, because float32 rounds
FEWEST = 4  # vectors: two to build on, and two to hold out, so that one of them can choose
# At most this many queries, and at most one vector in ten, are held out.
_MOST_QUERIES = 1000
_SHARE = 10
_Z = 1.959964  # the 97.5 % quantile of the normal distribution


@dataclass(frozen=True)
class Estimate:
    """A share in [0, 1] and the ends of its 95 % interval."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        """Return the share in per cent with its interval."""
        return f"{100 * self.value:.1f} % ({100 * self.low:.1f} to {100 * self.high:.1f})"


@dataclass(frozen=True)
class Recall:
    """How much of the exact result an index finds for queries that it does not contain.

    Attributes:
        at_1: share of queries whose first result is the true nearest neighbour.
        at_10: mean share of the 10 true nearest neighbours among the first 10 results.
        queries: number of queries.
        images: number of images that they searched.
        method: how it was measured, in words.
    """

    at_1: Estimate
    at_10: Estimate
    queries: int
    images: int
    method: str = METHOD


def held_out(count: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the rows of `count` vectors to build on and to hold out, at least two of each.

    The held-out rows are a random sample, the same in each run.

    >>> [len(rows) for rows in held_out(50)]
    [45, 5]
    """
    number = min(_MOST_QUERIES, max(2, count // _SHARE))
    order = np.random.default_rng(0).permutation(count)
    return np.sort(order[number:]), order[:number]


def recall_of(cosines: np.ndarray, wanted: np.ndarray, images: int) -> Recall:
    """Return the recall of a search.

    Args:
        cosines: what it found, `(Q, k)`; -inf where it found fewer.
        wanted: what exact search finds, `(Q, k)`, best first.
        images: number of images that were searched.
    """
    first = cosines[:, 0] >= wanted[:, 0] - TIE
    near = cosines >= wanted[:, -1:] - TIE
    count = len(cosines)
    return Recall(
        at_1=estimate(float(first.mean()), count),
        at_10=estimate(float(near.mean()), count),
        queries=count,
        images=images,
    )


def estimate(share: float, queries: int) -> Estimate:
    """Return a mean over queries with its Wilson interval.

    A mean of shares varies at most as much as a mean of yes and no, so the interval is wide enough
    for both.

    >>> round(estimate(1.0, 100).low, 3)
    0.963
    """
    square = _Z**2 / queries
    centre = (share + square / 2) / (1 + square)
    half = _Z / (1 + square) * math.sqrt(share * (1 - share) / queries + square / queries / 4)
    return Estimate(share, max(0.0, centre - half), min(1.0, centre + half))
