"""A gallery with images added or removed searches as one that was built so."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from gsp_deploy import PreprocessingSpec
from gsp_deploy.base import folders
from gsp_deploy.errors import UsageError
from gsp_deploy.metrics import unit_rows
from gsp_deploy.retrieval.gallery import (
    Gallery,
    ModelIdentity,
    added,
    compacted,
    gallery_of,
    open_gallery,
    without,
    write_gallery,
)
from gsp_deploy.retrieval.gallery.changing import embeddings_of, imbalance_of
from gsp_deploy.retrieval.gallery.kinds import setting_of
from gsp_deploy.retrieval.gallery.lock import sole_change

COUNT, DIM = 200, 8
IDENTITY = ModelIdentity("a.onnx", "1" * 64, None, "fp32", DIM, None, PreprocessingSpec(32, 32))
VECTORS = unit_rows(np.random.default_rng(0).standard_normal((COUNT, DIM)).astype(np.float32))
FILES = tuple(f"/photos/{number % 2}/{number}.png" for number in range(COUNT))
KINDS = ("flat", "hnsw", "ivf")


def first_hits(gallery: Gallery) -> list[str]:
    hits, _ = gallery.search(IDENTITY, VECTORS, 1)
    return [row[0].file for row in hits]


@pytest.mark.parametrize("kind", KINDS)
def test_added_images_are_found_and_none_is_there_twice(kind) -> None:
    gallery = gallery_of(FILES[:150], VECTORS[:150], IDENTITY, kind)
    more, warning = added(gallery, gallery_of(FILES[100:], VECTORS[100:], IDENTITY))
    assert (warning, len(more.files), more.index.ntotal) == (None, COUNT, COUNT)
    assert set(more.files) == set(FILES)
    assert first_hits(more) == list(FILES)
    assert more.recall == gallery.recall
    again, _ = added(more, gallery_of(FILES, VECTORS, IDENTITY))
    assert again.index.ntotal == COUNT


@pytest.mark.parametrize("kind", KINDS)
def test_removed_images_are_gone_and_the_others_stay(kind) -> None:
    gallery = gallery_of(FILES, VECTORS, IDENTITY, kind)
    order = [FILES.index(name) for name in gallery.files]
    np.testing.assert_allclose(embeddings_of(gallery), VECTORS[order], atol=1e-6)
    if kind == "ivf":
        gallery.index.nprobe = 2
    fewer = without(gallery, ["/photos/1/*", FILES[0]])
    expected = set(FILES[2::2])
    assert (set(fewer.files), fewer.index.ntotal) == (expected, len(expected))
    assert [found for found, name in zip(first_hits(fewer), FILES, strict=True)
            if name in expected] == list(FILES[2::2])  # fmt: skip
    assert setting_of(kind, fewer.index) == setting_of(kind, gallery.index)
    assert first_hits(gallery) == list(FILES)


def test_a_compacted_gallery_fits_its_images() -> None:
    gallery = gallery_of(FILES[:100], VECTORS[:100], IDENTITY, "ivf")
    more, _ = added(gallery, gallery_of(FILES, VECTORS, IDENTITY))
    tight = compacted(more)
    assert set(tight.files) == set(FILES)
    assert (more.recall.images, tight.recall.images) == (90, 180)
    assert (more.index.nlist, tight.index.nlist) == (2, 4)
    assert min(imbalance_of(more), imbalance_of(tight)) >= 1
    order = [FILES.index(name) for name in tight.files]
    np.testing.assert_allclose(embeddings_of(tight), VECTORS[order], atol=1e-6)
    assert setting_of("ivf", tight.index) == setting_of("ivf", gallery.index)
    assert imbalance_of(gallery_of(FILES, VECTORS, IDENTITY)) is None


def test_one_change_at_a_time(tmp_path: Path) -> None:
    refused = pytest.raises(UsageError, match="another run is changing this gallery")
    with sole_change(tmp_path), refused, sole_change(tmp_path):
        pass
    with sole_change(tmp_path):
        pass


def interrupt(*_: object) -> None:
    raise KeyboardInterrupt


def test_an_interrupted_change_leaves_the_old_gallery(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "gallery"
    write_gallery(gallery_of(FILES[:20], VECTORS[:20], IDENTITY), folder)
    more, _ = added(open_gallery(folder, to_change=True), gallery_of(FILES, VECTORS, IDENTITY))
    monkeypatch.setattr(
        folders, "move_together", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt)
    )
    with pytest.raises(KeyboardInterrupt):
        write_gallery(more, folder, force=True)
    assert open_gallery(folder).files == FILES[:20]
    assert [path.name for path in tmp_path.iterdir()] == ["gallery"]


def test_what_cannot_be_changed() -> None:
    gallery = gallery_of(FILES, VECTORS, IDENTITY)
    with pytest.raises(UsageError, match=r"no image '/photos/none\.png'"):
        without(gallery, ["/photos/none.png"])
    with pytest.raises(UsageError, match="remove every image"):
        without(gallery, ["/photos/*"])
    other = gallery_of(FILES, VECTORS, replace(IDENTITY, sha256="2" * 64))
    with pytest.raises(UsageError, match="no manifest beside it"):
        added(gallery, other)
