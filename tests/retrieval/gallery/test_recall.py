"""Recall counts what an index finds for queries that it does not contain."""

from __future__ import annotations

from pathlib import Path

import faiss
import numpy as np
import pytest

from gsp_deploy import PreprocessingSpec
from gsp_deploy.errors import GateError, UsageError
from gsp_deploy.metrics import unit_rows
from gsp_deploy.retrieval.gallery import (
    Gallery,
    ModelIdentity,
    added,
    build,
    gallery_of,
    kinds,
    open_gallery,
    without,
    write_gallery,
)
from gsp_deploy.retrieval.gallery.changing import embeddings_of
from gsp_deploy.retrieval.gallery.kinds import setting_of
from gsp_deploy.retrieval.gallery.recall import Truth, measured_recall
from gsp_deploy.retrieval.recall import RANK, estimate, held_out

VECTORS = unit_rows(np.random.default_rng(1).standard_normal((300, 8)).astype(np.float32))

IDENTITY = ModelIdentity("a.onnx", "1" * 64, None, "fp32", 8, None, PreprocessingSpec(32, 32))


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
    gallery = gallery_of(ids, VECTORS, IDENTITY, "hnsw")
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
    found = measured_recall(Reversed(), Truth.of(twice, queries))
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
    found = measured_recall(Half(), Truth.of(VECTORS, queries))
    assert found.at_1.value == 0
    assert found.at_10.value == pytest.approx((RANK // 2) / RANK)


def test_rows_are_held_out_once() -> None:
    for count in (4, 9, 90, 20_000):
        built, held = held_out(count)
        assert sorted((*built, *held)) == list(range(count))
        assert 2 <= len(held) <= 1000


def test_the_interval_is_wilsons() -> None:
    """The textbook's: 8 of 10 gives 0.490 to 0.943."""
    found = estimate(0.8, 10)
    assert (found.low, found.high) == pytest.approx((0.4902, 0.9433), abs=1e-4)


@pytest.fixture(scope="module")
def many() -> np.ndarray:
    """Vectors around 200 centres."""
    generator = np.random.default_rng(4)
    centres = generator.standard_normal((200, 8))
    points = np.repeat(centres, 60, axis=0) + 0.3 * generator.standard_normal((12_000, 8))
    return unit_rows(points.astype(np.float32))


@pytest.fixture(scope="module")
def compressed(many: np.ndarray) -> Gallery:
    ids = [str(number) for number in range(len(many))]
    return gallery_of(ids, many, IDENTITY, "ivf-pq", recall=0.97)


def test_the_fastest_setting_that_reaches_the_recall_is_chosen(compressed: Gallery) -> None:
    trade, measured = compressed.trade, compressed.recall
    assert trade is not None
    assert measured is not None
    assert measured.queries == 500  # the other half chose
    assert trade.chosen.recall >= 0.97
    assert measured.at_10.high >= 0.97
    assert trade.chosen in trade.trials
    front = [(trial.milliseconds, trial.recall) for trial in trade.trials]
    assert front == sorted(front)
    faster = [t for t in trade.trials if t.milliseconds < trade.chosen.milliseconds]
    assert all(trial.recall < 0.97 for trial in faster)


def test_refinement_gives_cosines_and_is_kept_on_disk(
    compressed: Gallery, many: np.ndarray, tmp_path: Path
) -> None:
    write_gallery(compressed, tmp_path / "gallery")
    again = open_gallery(tmp_path / "gallery")
    assert (again.kind, again.recall) == ("ivf-pq", compressed.recall)
    expected, found = (g.search(IDENTITY, many[:50], 5)[0] for g in (compressed, again))
    assert found == expected
    for row, hits in enumerate(found):
        for hit in hits:
            assert hit.cosine == pytest.approx(many[row] @ many[int(hit.file)], abs=2e-3)
    assert np.mean([hits[0].cosine > 0.998 for hits in found]) > 0.9


def test_compressed_galleries_grow_and_shrink(compressed: Gallery, many: np.ndarray) -> None:
    order = [int(name) for name in compressed.files]
    np.testing.assert_allclose(embeddings_of(compressed), many[order], atol=1e-3)
    fewer = without(compressed, ["1", "2"])
    assert setting_of("ivf-pq", fewer.index) == setting_of("ivf-pq", compressed.index)
    more, _ = added(fewer, gallery_of(["1"], many[1:2], IDENTITY))
    assert (len(fewer.files), more.index.ntotal) == (len(many) - 2, len(many) - 1)
    assert more.search(IDENTITY, many[1:2], 1)[0][0][0].file == "1"


def test_a_recall_that_cannot_be_reached_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kinds, "_CANDIDATES", (1,))
    points = unit_rows(np.random.default_rng(5).standard_normal((2000, 64)).astype(np.float32))
    with pytest.raises(GateError, match=r"recall@10 of 1; the best is 0\.\d+ with efSearch 1"):
        gallery_of([str(n) for n in range(2000)], points, IDENTITY, "hnsw", recall=1.0)


@pytest.mark.parametrize(
    ("kind", "recall", "said"),
    [("flat", 0.9, "flat index is exact"), ("hnsw", 0.0, "above 0"), ("ivf", 1.5, "at most 1")],
)
def test_recalls_that_cannot_be_wanted(kind, recall: float, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        gallery_of(["a"] * 300, VECTORS, IDENTITY, kind, recall)


def test_too_few_images_for_codes() -> None:
    with pytest.raises(UsageError, match="at least 9,984 images besides"):
        gallery_of(["a"] * 300, VECTORS, IDENTITY, "ivf-pq")
    with pytest.raises(UsageError, match="at least 4 images, got 3"):
        gallery_of(["a"] * 3, VECTORS[:3], IDENTITY, "hnsw")
