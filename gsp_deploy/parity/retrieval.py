"""Check that the candidate finds the same neighbours as the reference, each in its own gallery."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from gsp_deploy.metrics import RetrievalMetrics, neighbours, retrieval_metrics
from gsp_deploy.parity.distribution import finite

RANKS = (1, 10)
# Two gallery images with distances this close (copies of one file, say) count as a tie: relative to
# the distance, or to the query's length if it is longer, because float32 rounds by its length.
TIE = 1e-6
_TINY = 1e-30


@dataclass(frozen=True)
class RetrievalAgreement:
    """Neighbours of every image among all the others, in the reference and in the candidate.

    Attributes:
        overlap_at: for each k, the mean share of the candidate's k nearest that are among the k
            nearest of the reference, except for ties.
        flips: images with another nearest neighbour, except for ties.
        queries: how many images were searched with.
        worst_regret: largest relative excess distance of the candidate's nearest neighbour over
            the reference's, by the reference's distances.
        reference, candidate: retrieval quality of each; None without labels.
    """

    overlap_at: dict[int, float]
    flips: int
    queries: int
    worst_regret: float
    reference: RetrievalMetrics | None = None
    candidate: RetrievalMetrics | None = None

    @property
    def flip_share(self) -> float:
        """Share of images with another nearest neighbour."""
        return self.flips / self.queries

    @property
    def recall_change(self) -> float:
        """R@1 of the candidate minus that of the reference; NaN without labels."""
        if self.reference is None or self.candidate is None:
            return math.nan
        return self.candidate.recall_at[1] - self.reference.recall_at[1]

    @property
    def map_change(self) -> float:
        """MAP@R of the candidate minus that of the reference; NaN without labels."""
        if self.reference is None or self.candidate is None:
            return math.nan
        return self.candidate.map_at_r - self.reference.map_at_r

    def to_dict(self) -> dict[str, Any]:
        """Return JSON-able data."""
        data: dict[str, Any] = {
            "overlap_at": {str(k): share for k, share in self.overlap_at.items()},
            "top1_flips": self.flips,
            "top1_flip_share": self.flip_share,
            "queries": self.queries,
            "worst_regret": finite(self.worst_regret),
        }
        if self.reference is not None and self.candidate is not None:
            data["reference"] = _figures(self.reference)
            data["candidate"] = _figures(self.candidate)
            data["recall_at_1_change"] = finite(self.recall_change)
            data["map_at_r_change"] = finite(self.map_change)
        return data


def retrieval_agreement(
    reference: np.ndarray, candidate: np.ndarray, labels: np.ndarray | None = None
) -> RetrievalAgreement:
    """Search both sets of embeddings `(n, D)`, n at least 2, each image among the others.

    Args:
        reference, candidate: embeddings of the same images, all finite.
        labels: integers `(n,)`, for R@1 and MAP@R.

    Raises:
        MissingCapabilityError: faiss is not installed.
    """
    ranks = sorted({min(rank, len(reference) - 1) for rank in RANKS})
    _, expected = neighbours(reference, k=ranks[-1])
    _, found = neighbours(candidate, k=ranks[-1])
    change, distance = _changes(reference, expected[:, 0], found[:, 0])
    metrics = (
        [None, None]
        if labels is None
        else [retrieval_metrics(side, labels, ranks=(1,)) for side in (reference, candidate)]
    )
    return RetrievalAgreement(
        overlap_at={k: _overlap(reference, expected[:, :k], found[:, :k]) for k in ranks},
        flips=int((change > _tie(reference, distance)).sum()),
        queries=len(reference),
        worst_regret=float((change / np.maximum(distance, _TINY)).max()),
        reference=metrics[0],
        candidate=metrics[1],
    )


def _overlap(embeddings: np.ndarray, expected: np.ndarray, found: np.ndarray) -> float:
    """Return the mean share of `found` that is no farther than the last of `expected`, or tied."""
    farthest = _distances(embeddings, expected[:, -1])
    limit = farthest + _tie(embeddings, farthest)
    near = [_distances(embeddings, found[:, rank]) <= limit for rank in range(found.shape[1])]
    return float(np.mean(near))


def _tie(embeddings: np.ndarray, distances: np.ndarray) -> np.ndarray:
    """Return how much two distances `(n,)` may differ and still tie."""
    lengths = np.linalg.norm(embeddings.astype(np.float64), axis=1)
    return np.asarray(TIE * np.maximum(distances, lengths))


def _distances(embeddings: np.ndarray, chosen: np.ndarray) -> np.ndarray:
    points = embeddings.astype(np.float64)
    return np.asarray(np.linalg.norm(points - points[chosen], axis=1))


def _changes(
    embeddings: np.ndarray, expected: np.ndarray, found: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return how much farther `found` is than `expected`, and the larger distance, `(n,)` each."""
    distances = [_distances(embeddings, chosen) for chosen in (expected, found)]
    change = np.where(expected == found, 0.0, distances[1] - distances[0]).clip(min=0)
    return change, np.maximum(*distances)


def _figures(metrics: RetrievalMetrics) -> dict[str, float | None]:
    return {name: finite(value) for name, value in metrics.to_dict().items()}
