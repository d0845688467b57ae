"""Measure retrieval quality: recall@k, MAP@R and R-precision, and the search behind them.

The definitions are those of "A Metric Learning Reality Check" (Musgrave et al., ECCV 2020), and the
results equal those of pytorch-metric-learning's `AccuracyCalculator`, ties included: neighbours at
the same distance are in the gallery's order. Needs numpy and faiss, but no torch.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from gsp_deploy.errors import MissingCapabilityError, UsageError

DEFAULT_RANKS = (1, 2, 4, 8)
# Limits the memory of one chunk of queries: the indices of its neighbours, and their masks.
_CHUNK_ENTRIES = 8_000_000
# Points are shifted if their centre is this many times farther from the origin than they are from
# their centre.
_FAR = 10.0
# Two points can be twice their norm apart, so four times its square must not overflow float32.
_LARGEST_NORM = 9e18


@dataclass(frozen=True)
class RetrievalMetrics:
    """Retrieval quality, each figure in [0, 1], or NaN if no query has an image to find.

    Attributes:
        recall_at: for each rank k, the share of queries with a hit among the first k neighbours.
        map_at_r: mean average precision at R, where R is the number of possible hits of a query.
        r_precision: share of hits among the first R neighbours.
        queries: number of queries in the means; a query is left out if the gallery has no other
            sample of its class.
    """

    recall_at: dict[int, float]
    map_at_r: float
    r_precision: float
    queries: int

    def to_dict(self) -> dict[str, float]:
        """Return the figures by name: `recall_at_1`, ..., `map_at_r`, `r_precision`."""
        recalls = {f"recall_at_{rank}": value for rank, value in self.recall_at.items()}
        return {**recalls, "map_at_r": self.map_at_r, "r_precision": self.r_precision}


def retrieval_metrics(
    query_embeddings: np.ndarray,
    query_labels: np.ndarray,
    gallery_embeddings: np.ndarray | None = None,
    gallery_labels: np.ndarray | None = None,
    ranks: Sequence[int] = DEFAULT_RANKS,
) -> RetrievalMetrics:
    """Search the gallery for each query by Euclidean distance and count the hits.

    Args:
        query_embeddings: `(Q, D)`.
        query_labels: integers `(Q,)`.
        gallery_embeddings: `(G, D)`; without a gallery, each query is searched among the other
            queries.
        gallery_labels: integers `(G,)`, if there is a gallery.
        ranks: the values of k for recall@k, each at least 1.

    Raises:
        UsageError: shapes disagree, a value is not finite, or a rank is below 1.
        MissingCapabilityError: faiss is not installed.

    >>> points = np.array([[0.0], [0.1], [5.0], [5.1]])
    >>> retrieval_metrics(points, np.array([0, 0, 1, 1])).map_at_r
    1.0
    """
    queries, labels = _checked("query", query_embeddings, query_labels)
    same_set = gallery_embeddings is None and gallery_labels is None
    gallery, gallery_classes = (
        (queries, labels) if same_set else _checked("gallery", gallery_embeddings, gallery_labels)
    )
    _check_ranks(ranks)
    relevant = _class_counts(labels, gallery_classes) - int(same_set)
    searchable = np.flatnonzero(relevant > 0)
    if not len(searchable):
        return RetrievalMetrics(dict.fromkeys(ranks, math.nan), math.nan, math.nan, 0)
    depth = min(int(max(relevant.max(), *ranks)), len(gallery) - int(same_set))
    sums = np.zeros(len(ranks) + 2)
    for rows, found in _search(queries, gallery, depth, searchable, same_set):
        hits = gallery_classes[found] == labels[rows, None]
        sums += summed_scores(hits, relevant[rows], ranks)
    means = (sums / len(searchable)).tolist()
    recalls = dict(zip(ranks, means, strict=False))
    return RetrievalMetrics(recalls, means[-2], means[-1], len(searchable))


def unit_rows(embeddings: np.ndarray) -> np.ndarray:
    """Return embeddings `(n, D)` scaled to unit length; a row of zeros stays as it is.

    >>> unit_rows(np.array([[3.0, 4.0], [0.0, 0.0]]))
    array([[0.6, 0.8],
           [0. , 0. ]])
    """
    return embeddings / np.maximum(np.linalg.norm(embeddings, axis=1, keepdims=True), 1e-12)


def shares_by_name(metrics: Mapping[str, Any]) -> dict[str, float]:
    """Read the output of `RetrievalMetrics.to_dict` from a document."""
    return {str(name): float(share) for name, share in metrics.items()}


def cosine_distances(reference: np.ndarray, candidate: np.ndarray) -> np.ndarray:
    """Return 1 - cos of each pair of rows `(n, D)`, float64 `(n,)`; accurate for nearly equal rows.

    It is computed as |u - v|^2 / 2 of unit vectors, because 1 - u.v cancels if u is close to v. A
    vector of zeros has no direction: its distance is 0 to another one of zeros, because they are
    equal, and 1 to any other. The distance is NaN if a vector contains NaN or infinity.

    >>> cosine_distances(np.array([[1.0, 0.0], [0.0, 0.0]]), np.array([[0.0, 2.0], [0.0, 0.0]]))
    array([1., 0.])
    """
    with np.errstate(invalid="ignore"):
        (one, no_one), (other, no_other) = map(_directions, (reference, candidate))
        distances = 0.5 * np.square(one - other).sum(axis=1)
    distances[(no_one ^ no_other) & np.isfinite(distances)] = 1.0  # not |0 - unit|^2 / 2
    return distances


def _directions(vectors: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the vectors scaled to length 1 in float64, and which are zero and stay zero."""
    wide = vectors.reshape(len(vectors), -1).astype(np.float64)
    lengths = np.linalg.norm(wide, axis=1, keepdims=True)
    return wide / np.where(lengths == 0, 1, lengths), lengths[:, 0] == 0


def neighbours(
    queries: np.ndarray, gallery: np.ndarray | None = None, k: int = 1
) -> tuple[np.ndarray, np.ndarray]:
    """Return the k nearest gallery rows of each query, nearest first.

    Args:
        queries: `(Q, D)`.
        gallery: `(G, D)`; without it, each query is searched among the other queries.
        k: number of neighbours, at most the size of the gallery.

    Returns:
        Euclidean distances, float32 `(Q, k)`, and gallery indices, int64 `(Q, k)`.

    Raises:
        UsageError: shapes are wrong, a value is not finite, or `k` is out of range.
        MissingCapabilityError: faiss is not installed.
    """
    same_set = gallery is None
    points = _as_points("query", queries)
    others = points if gallery is None else _as_points("gallery", gallery)
    available = len(others) - int(same_set)
    if not 1 <= k <= available:
        raise UsageError(f"k must be from 1 to {available}, the size of the gallery, got {k}")
    points, others = _around_the_origin(points, others)
    index = _faiss_index(others)
    parts = [
        _nearest(index, points[rows], rows if same_set else None, k)
        for rows in _chunks(np.arange(len(points)), k)
    ]
    squared, indices = (np.concatenate(part) for part in zip(*parts, strict=True))
    return np.sqrt(squared.clip(min=0)), indices


def neighbour_overlap(expected: np.ndarray, found: np.ndarray) -> float:
    """Return the mean share of common neighbours; both arguments are gallery indices `(Q, k)`.

    >>> neighbour_overlap(np.array([[1, 2], [3, 4]]), np.array([[2, 1], [3, 5]]))
    0.75
    """
    return float((found[:, :, None] == expected[:, None, :]).any(axis=2).mean())


def _search(
    queries: np.ndarray, gallery: np.ndarray, depth: int, searchable: np.ndarray, same_set: bool
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield query rows and the gallery indices of their neighbours, chunk by chunk."""
    queries, gallery = _around_the_origin(queries, gallery)
    index = _faiss_index(gallery)
    for rows in _chunks(searchable, depth):
        _, indices = _nearest(index, queries[rows], rows if same_set else None, depth)
        yield rows, indices


def _around_the_origin(queries: np.ndarray, gallery: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return both, `(Q, D)` and `(G, D)`, shifted by one vector if they are far from the origin.

    A shift does not change distances. faiss computes them as |q|^2 + |g|^2 - 2 q.g in float32. If
    points are close to each other but |q| is large, as for embeddings of an untrained network, all
    digits cancel. Points near the origin are not shifted, so that ties stay ties.
    """
    centre = gallery.mean(axis=0, dtype=np.float64)
    square = float(centre @ centre)
    spread = np.einsum("ij,ij->", gallery, gallery, dtype=np.float64) / len(gallery) - square
    if square <= _FAR**2 * spread:
        return queries, gallery
    shift = centre.astype(np.float32)
    return queries - shift, gallery - shift


def _nearest(
    index: Any, queries: np.ndarray, own_rows: np.ndarray | None, k: int
) -> tuple[np.ndarray, np.ndarray]:
    """Search the k nearest; if the queries are in the gallery, leave out each query's own row."""
    if own_rows is None:
        squared, indices = index.search(queries, k)
        return squared, indices
    squared, indices = index.search(queries, k + 1)
    own = indices == own_rows[:, None]
    own[~own.any(axis=1), -1] = True  # more than k exact duplicates can hide the query
    return squared[~own].reshape(-1, k), indices[~own].reshape(-1, k)


def summed_scores(hits: np.ndarray, relevant: np.ndarray, ranks: Sequence[int]) -> np.ndarray:
    """Return sums over queries: recall at each rank, average precision at R, R-precision.

    Args:
        hits: whether each neighbour is of the query's class, `(Q, depth)`.
        relevant: R of each query, `(Q,)`.
    """
    recalls = [float(hits[:, :rank].any(axis=1).sum()) for rank in ranks]
    first_r = hits & (np.arange(hits.shape[1]) < relevant[:, None])
    positions = np.arange(1, hits.shape[1] + 1)
    precision = np.cumsum(first_r, axis=1, dtype=np.int32) / positions
    average_precision = (precision * first_r).sum(axis=1) / relevant
    return np.array(
        [*recalls, average_precision.sum(), (first_r.sum(axis=1) / relevant).sum()], dtype=float
    )


def _chunks(rows: np.ndarray, depth: int) -> list[np.ndarray]:
    size = max(1, min(4096, _CHUNK_ENTRIES // (depth + 1)))
    return [rows[start : start + size] for start in range(0, len(rows), size)]


def _faiss_index(points: np.ndarray) -> Any:
    try:
        import faiss  # imported here, so that the rest of this module works without faiss
    except ImportError as error:
        raise MissingCapabilityError(
            "the nearest-neighbour search needs faiss: pip install faiss-cpu"
        ) from error
    index = faiss.IndexFlatL2(points.shape[1])
    index.add(points)
    return index


def _class_counts(labels: np.ndarray, gallery: np.ndarray) -> np.ndarray:
    """Return how often each label occurs in the gallery."""
    classes, counts = np.unique(gallery, return_counts=True)
    place = np.searchsorted(classes, labels).clip(max=len(classes) - 1)
    return np.where(classes[place] == labels, counts[place], 0)


def _checked(
    name: str, embeddings: np.ndarray | None, labels: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray]:
    if embeddings is None or labels is None:
        raise UsageError("a gallery needs both embeddings and labels, got only one of them")
    points, classes = _as_points(name, embeddings), np.asarray(labels)
    if classes.shape != (len(points),) or not np.issubdtype(classes.dtype, np.integer):
        raise UsageError(
            f"expected integer {name} labels of shape ({len(points)},), one per embedding, "
            f"got {classes.dtype} of shape {classes.shape}"
        )
    return points, classes


def _as_points(name: str, embeddings: np.ndarray) -> np.ndarray:
    points = np.ascontiguousarray(embeddings, dtype=np.float32)
    if points.ndim != 2 or not points.size:
        raise UsageError(f"expected {name} embeddings of shape (count, D), got {points.shape}")
    if not np.isfinite(points).all():
        row = int(np.flatnonzero(~np.isfinite(points).all(axis=1))[0])
        raise UsageError(f"{name} embedding {row} holds NaN or infinity; it cannot be searched")
    if (norm := float(np.abs(points).max()) * points.shape[1] ** 0.5) > _LARGEST_NORM:
        raise UsageError(
            f"{name} embeddings reach a length of {norm:.1e}, too large to square in float32; "
            "scale them to unit length"
        )
    return points


def _check_ranks(ranks: Sequence[int]) -> None:
    if not ranks or min(ranks) < 1:
        raise UsageError(f"ranks must be whole numbers of at least 1, got {list(ranks)}")
