"""Measure the recall of a faiss index on queries that it does not contain."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import faiss
import numpy as np

from gsp_deploy.retrieval.recall import RANK, Recall, recall_of


@dataclass(frozen=True, eq=False)
class Truth:
    """Queries `(Q, D)`, the vectors `(n, D)` that they search, and the best cosines `(Q, k)`."""

    vectors: np.ndarray
    queries: np.ndarray
    cosines: np.ndarray

    @classmethod
    def of(cls, vectors: np.ndarray, queries: np.ndarray) -> Truth:
        """Search unit vectors exactly."""
        exact = faiss.IndexFlatIP(vectors.shape[1])
        exact.add(vectors)
        cosines, _ = exact.search(queries, min(RANK, len(vectors)))
        return cls(vectors, queries, cosines)


def measured_recall(index: Any, truth: Truth) -> Recall:
    """Search an index of the truth's vectors with its queries, which the index does not contain."""
    wanted = truth.cosines
    _, places = index.search(truth.queries, wanted.shape[1])
    cosines = np.einsum("qkd,qd->qk", truth.vectors[places], truth.queries)
    cosines[places < 0] = -math.inf  # faiss writes -1 where it finds fewer
    return recall_of(cosines, wanted, len(truth.vectors))
