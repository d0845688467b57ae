"""What a migration check reports equals numpy's own search, and no query finds itself."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from gsp_deploy import PreprocessingSpec
from gsp_deploy.errors import GateError, UsageError
from gsp_deploy.metrics import retrieval_metrics, unit_rows
from gsp_deploy.parity.migration import check_migration
from gsp_deploy.retrieval.embedding import EmbeddingTable
from gsp_deploy.retrieval.gallery import Gallery, ModelIdentity, gallery_of

CLASSES, EACH, DIM = 10, 12, 6
COUNT = CLASSES * EACH
LABELS = np.repeat(np.arange(CLASSES), EACH)
FILES = tuple(f"/photos/{label}/{n}.png" for n, label in enumerate(LABELS))
OLD = ModelIdentity("a.onnx", "1" * 64, None, "fp16", DIM, None, PreprocessingSpec(32, 32))
NEW = replace(OLD, file="b.onnx", sha256="2" * 64)
LOOSE = {"max_flips": 1.0, "min_overlap": 0.0, "max_recall_drop": 1.0, "max_map_drop": 1.0}


def points(seed: int = 0) -> np.ndarray:
    generator = np.random.default_rng(seed)
    centres = generator.standard_normal((CLASSES, DIM))[LABELS]
    return unit_rows((centres + generator.standard_normal((COUNT, DIM))).astype(np.float32))


VECTORS = points()
NOISY = unit_rows(VECTORS + 0.2 * points(1))


@pytest.fixture
def gallery() -> Gallery:
    return gallery_of(FILES, VECTORS, OLD)


def judged(gallery: Gallery, after: np.ndarray, ids=FILES, before=VECTORS, **options):
    old = (OLD, EmbeddingTable(ids, before))
    new = (options.pop("new", NEW), EmbeddingTable(ids, after))
    return check_migration(gallery, old, new, **options)


def test_the_same_embeddings_keep_everything(gallery: Gallery) -> None:
    found = judged(gallery, VECTORS)
    assert (found.kept_at[1].value, found.kept_at[10].value) == (1, 1)
    assert found.old_quality == found.new_quality
    assert (found.members, found.copies) == (COUNT, 0)
    found.raise_on_failure()
    assert found.refusal is not None  # both files record no checkpoint
    assert "no manifest beside it" in found.refusal


def test_neighbours_kept_are_numpys_without_the_query_itself(gallery: Gallery) -> None:
    found = judged(gallery, NOISY, limits=LOOSE)
    ranked = []
    for queries in (VECTORS, NOISY):
        cosines = queries @ VECTORS.T
        np.fill_diagonal(cosines, -2)
        ranked.append(np.argsort(-cosines, axis=1))
    for rank in (1, 10):
        pairs = zip(*(order[:, :rank] for order in ranked), strict=True)
        shares = [len(np.intersect1d(a, b)) / rank for a, b in pairs]
        assert found.kept_at[rank].value == pytest.approx(np.mean(shares))
        assert shares
    assert found.kept_at[1].value < 1
    assert (np.argmax(NOISY @ VECTORS.T, axis=1) == np.arange(COUNT)).mean() > 0.9  # itself


def test_quality_is_that_of_a_gallery_search(gallery: Gallery) -> None:
    """Queries from elsewhere, which the gallery does not contain."""
    ids = tuple(name.replace("/photos", "/queries") for name in FILES)
    before, after = points(0)[::-1].copy(), NOISY
    found = judged(gallery, after, ids, before, limits=LOOSE)
    assert found.members == 0
    for side, quality in ((before, found.old_quality), (after, found.new_quality)):
        expected = retrieval_metrics(side, LABELS, VECTORS, LABELS, (1,))
        assert quality is not None
        assert quality.recall_at_1 == pytest.approx(expected.recall_at[1])
        assert quality.map_at_r == pytest.approx(expected.map_at_r)


def test_other_embeddings_fail_every_gate(gallery: Gallery) -> None:
    found = judged(gallery, VECTORS[::-1].copy())
    failed = {gate.name for gate in found.gates if not gate.passed}
    assert failed == {"max_flips", "min_overlap", "max_recall_drop", "max_map_drop"}
    with pytest.raises(GateError, match=r"b\.onnx may not search the gallery of a\.onnx: top-1"):
        found.raise_on_failure()
    assert found.to_dict()["passed"] is False


def test_broken_embeddings_fail_a_gate_of_their_own(gallery: Gallery) -> None:
    broken = VECTORS.copy()
    broken[3, 0] = np.nan
    found = judged(gallery, broken, limits=LOOSE)
    assert [gate.name for gate in found.gates if not gate.passed] == ["finite"]


def test_copies_in_the_gallery_tie(gallery: Gallery) -> None:
    ids = tuple(name.replace("/photos", "/queries") for name in FILES)
    twice = gallery_of((*FILES, *ids), np.concatenate([VECTORS, VECTORS]), OLD)
    found = judged(twice, VECTORS * (1 + 1e-7), limits=LOOSE)
    assert (found.kept_at[1].value, found.copies) == (1, COUNT)


def test_classes_that_are_not_shared_are_not_measured(gallery: Gallery) -> None:
    ids = tuple(f"/one/{n}.png" for n in range(COUNT))
    assert judged(gallery, VECTORS, ids).old_quality is None
    assert judged(gallery, VECTORS, with_classes=False).old_quality is None


def test_what_cannot_be_compared(gallery: Gallery) -> None:
    with pytest.raises(UsageError, match=r"embeddings of 6-D, and b\.onnx makes 7-D"):
        judged(gallery, np.ones((COUNT, 7), np.float32), new=replace(NEW, embedding_dim=7))
    other = (NEW, EmbeddingTable(FILES, VECTORS))
    with pytest.raises(UsageError, match=r"the queries are from b\.onnx"):
        check_migration(gallery, other, other)
    fewer = (NEW, EmbeddingTable(FILES[:3], VECTORS[:3]))
    with pytest.raises(UsageError, match="the same images"):
        check_migration(gallery, (OLD, EmbeddingTable(FILES, VECTORS)), fewer)
