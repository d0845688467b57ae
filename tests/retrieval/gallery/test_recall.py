"""Recall counts what an index finds for queries that it does not contain."""

from __future__ import annotations

import faiss
import numpy as np
import pytest

from gsp_deploy.metrics import unit_rows
from gsp_deploy.retrieval.gallery import build, gallery_of
from gsp_deploy.retrieval.gallery.recall import RANK, estimate, held_out, measured_recall

VECTORS = unit_rows(np.random.default_rng(1).standard_normal((300, 8)).astype(np.float32))


class FindsOnlyItself:
    """An index that answers a query with its own vector, and with nothing else."""

    def __init__(self) -> None:
        self.flat = faiss.IndexFlatIP(VECTORS.shape[1])
        self.add = self.flat.add

    def train(self, vectors: np.ndarray) -> None:
        pass

    def search(self, queries: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        cosines, places = self.flat.search(queries, k)
        return cosines, np.where(cosines > 1 - 1e-5, places, -1)


def test_finding_itself_earns_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build, "empty_index", lambda *_: FindsOnlyItself())
    ids = [str(number) for number in range(len(VECTORS))]
    gallery = gallery_of(ids, VECTORS, None, "hnsw")  # type: ignore[arg-type]
    assert gallery.recall is not None
    assert (gallery.recall.at_1.value, gallery.recall.at_10.value) == (0, 0)
    _, places = gallery.index.search(VECTORS, 1)
    assert [gallery.files[place] for (place,) in places] == ids  # it does contain every vector


def test_exact_search_has_full_recall_with_copies_in_the_gallery() -> None:
    twice = np.concatenate([VECTORS, VECTORS])
    index = faiss.IndexFlatIP(8)
    index.add(np.ascontiguousarray(twice[::-1]))

    class Reversed:
        """The same vectors, so copies come in the other order."""

        @staticmethod
        def search(queries: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
            cosines, places = index.search(queries, k)
            return cosines, len(twice) - 1 - places

    queries = unit_rows(np.random.default_rng(2).standard_normal((20, 8)).astype(np.float32))
    found = measured_recall(Reversed(), twice, queries)
    assert (found.at_1.value, found.at_10.value) == (1, 1)


def test_half_of_the_neighbours_is_half() -> None:
    index = faiss.IndexFlatIP(8)
    index.add(VECTORS)

    class Half:
        """Finds every other neighbour, the second one first."""

        @staticmethod
        def search(queries: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
            cosines, places = index.search(queries, 2 * k)
            return cosines[:, 1::2], places[:, 1::2]

    queries = unit_rows(np.random.default_rng(3).standard_normal((20, 8)).astype(np.float32))
    found = measured_recall(Half(), VECTORS, queries)
    assert found.at_1.value == 0
    assert found.at_10.value == pytest.approx((RANK // 2) / RANK)


def test_rows_are_held_out_once() -> None:
    for count in (2, 9, 90, 20_000):
        built, held = held_out(count)
        assert sorted((*built, *held)) == list(range(count))
        assert 1 <= len(held) <= 1000


def test_the_interval_is_wilsons() -> None:
    """The textbook's: 8 of 10 gives 0.490 to 0.943."""
    found = estimate(0.8, 10)
    assert (found.low, found.high) == pytest.approx((0.4902, 0.9433), abs=1e-4)
