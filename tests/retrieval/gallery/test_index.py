"""Galleries equal numpy exactly, are whole on disk, and refuse other models."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from PIL import Image

from gsp_deploy import PreprocessingSpec, load_checkpoint, open_session
from gsp_deploy.artifact import read_sidecar, write_sidecar
from gsp_deploy.base.files import sha256_of
from gsp_deploy.errors import DataError, ModelFileError, UsageError
from gsp_deploy.export import ExportOptions, export_onnx
from gsp_deploy.images.files import ImageReader, find_images
from gsp_deploy.images.preprocessing import load_image
from gsp_deploy.retrieval.gallery import (
    Gallery,
    ModelIdentity,
    build_gallery,
    gallery_of,
    identity_of,
    open_gallery,
    write_gallery,
)
from gsp_deploy.retrieval.gallery.kinds import check_kind
from gsp_deploy.runtime import EmbeddingSession

COUNT = 90
SPEC = PreprocessingSpec(32, 32)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pictures")
    noise = np.random.default_rng(0).integers(0, 256, (COUNT, 4, 4, 3), dtype=np.uint8)
    for number, pixels in enumerate(noise):
        Image.fromarray(pixels).resize((40, 32)).save(folder / f"ä {number:02}.png")
    (folder / "broken.png").write_bytes(b"no image")
    return folder


@pytest.fixture(scope="module")
def session(tiny_export: str):
    with open_session(tiny_export, threads=1) as opened:
        yield opened


@pytest.fixture(scope="module")
def reader(pictures: Path) -> ImageReader:
    return ImageReader(find_images([pictures]), SPEC)


@pytest.fixture(scope="module")
def flat(session: EmbeddingSession, reader: ImageReader) -> Gallery:
    return build_gallery(session, reader)


@pytest.fixture(scope="module")
def identity(session: EmbeddingSession) -> ModelIdentity:
    return identity_of(session)


@pytest.fixture(scope="module")
def embeddings(session: EmbeddingSession, flat: Gallery) -> np.ndarray:
    return session.embed(np.stack([load_image(file, SPEC) for file in flat.files]))


def test_flat_search_is_numpys(flat: Gallery, identity, embeddings: np.ndarray) -> None:
    cosines = embeddings @ embeddings.T
    hits, warning = flat.search(identity, embeddings[:20], 7)
    assert warning is None
    for row, found in zip(cosines, hits, strict=False):
        assert [hit.rank for hit in found] == [1, 2, 3, 4, 5, 6, 7]
        best = np.argsort(-row, kind="stable")[:7]
        np.testing.assert_allclose([hit.cosine for hit in found], row[best], atol=1e-6)
        assert found[0].file == flat.files[best[0]]


def test_the_length_of_embeddings_does_not_matter(flat: Gallery, identity, embeddings) -> None:
    short, long = (flat.search(identity, embeddings[:5] * scale, 3)[0] for scale in (0.1, 30))
    assert [[h.file for h in row] for row in short] == [[h.file for h in row] for row in long]


def test_files_that_cannot_be_read_are_left_out(flat: Gallery, pictures: Path) -> None:
    assert len(flat.files) == COUNT
    assert [failure.file for failure in flat.failures] == [pictures / "broken.png"]


def test_more_results_than_images(flat: Gallery, identity, embeddings: np.ndarray) -> None:
    ((*hits,),), _ = flat.search(identity, embeddings[:1], 1000)
    assert sorted(hit.file for hit in hits) == sorted(flat.files)
    with pytest.raises(UsageError, match="at least 1"):
        flat.search(identity, embeddings[:1], 0)


@pytest.mark.parametrize("kind", ["hnsw", "ivf"])
def test_approximate_kinds_measure_their_recall(kind, flat, identity, embeddings) -> None:
    gallery = gallery_of(flat.files, embeddings, identity, kind)
    assert gallery.recall is not None
    assert gallery.recall.queries == COUNT // 10
    assert 0.1 < gallery.recall.at_10.low < gallery.recall.at_10.value <= 1
    assert sorted(gallery.files) == sorted(flat.files)
    hits, _ = gallery.search(identity, embeddings, 1)
    assert [row[0].file for row in hits] == list(flat.files)


def test_kinds_that_do_not_fit(session, pictures: Path) -> None:
    with pytest.raises(UsageError, match="flat, hnsw, ivf, ivf-pq, got 'lsh'"):
        check_kind("lsh")
    few = ImageReader(find_images([str(pictures / "ä 0*.png")]), SPEC)
    with pytest.raises(UsageError, match=r"at least 78 images besides .* got 8"):
        build_gallery(session, few, "ivf")
    with pytest.raises(DataError, match="none of the 1 images"):
        build_gallery(session, ImageReader([pictures / "broken.png"], SPEC))


def test_what_is_written_is_read_again(flat: Gallery, identity, embeddings, tmp_path: Path) -> None:
    write_gallery(flat, tmp_path / "gallery")
    again = open_gallery(tmp_path / "gallery")
    assert (again.files, again.identity, again.kind) == (flat.files, flat.identity, "flat")
    assert again.search(identity, embeddings[:3], 5) == flat.search(identity, embeddings[:3], 5)
    with pytest.raises(UsageError, match="--force"):
        write_gallery(flat, tmp_path / "gallery")
    write_gallery(flat, tmp_path / "gallery", force=True)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "letter.txt").write_text("dear")
    with pytest.raises(UsageError, match="is not a gallery"):
        write_gallery(flat, tmp_path / "mine", force=True)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["gallery", "mine"]


@pytest.mark.parametrize("name", ["index.json", "index.faiss", "files.json"])
@pytest.mark.parametrize("damage", ["gone", "cut", "other"])
def test_damaged_galleries_are_named(name, damage, flat: Gallery, tmp_path: Path) -> None:
    write_gallery(flat, tmp_path / "gallery")
    file = tmp_path / "gallery" / name
    raw = file.read_bytes()
    file.unlink()
    if damage != "gone":
        file.write_bytes(raw[: len(raw) // 2] if damage == "cut" else b"{}")
    with pytest.raises(ModelFileError, match="gallery") as caught:
        open_gallery(tmp_path / "gallery")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "names",
    [{"0": "a"}, "text", [1], [None], [["a"]], [{}], [""], ["a\0b"], ["\ud800"], [True], 3, None],
)
def test_file_names_of_another_type_are_one_line(names, flat: Gallery, tmp_path: Path) -> None:
    """The hash is right: whoever wrote the gallery meant it so."""
    write_gallery(flat, tmp_path / "gallery")
    count = len(flat.files)
    file, about = tmp_path / "gallery" / "files.json", tmp_path / "gallery" / "index.json"
    file.write_text(json.dumps(names * count if isinstance(names, list) else names))
    recorded = json.loads(about.read_text())
    recorded["sha256"]["files.json"] = sha256_of(file)
    about.write_text(json.dumps(recorded))
    with pytest.raises(ModelFileError, match=r"is damaged \(files\.json must .*; index again") as e:
        open_gallery(tmp_path / "gallery")
    assert "\n" not in str(e.value)


@pytest.mark.parametrize("name", ["index.json", "index.faiss", "files.json"])
def test_a_pipe_in_a_gallery_is_not_opened(name: str, flat: Gallery, tmp_path: Path) -> None:
    write_gallery(flat, tmp_path / "gallery")
    (tmp_path / "gallery" / name).unlink()
    os.mkfifo(tmp_path / "gallery" / name)
    with pytest.raises(ModelFileError, match="gallery"):
        open_gallery(tmp_path / "gallery")


@pytest.mark.parametrize(
    "changes",
    [
        {"images": 3},
        {"identity": {"file": "x"}},
        {"sha256": None},
        {"format": 1},
        {"kind": "lsh"},
        {"recall": "high"},
    ],
)
def test_manifests_that_do_not_fit(changes, flat: Gallery, tmp_path: Path) -> None:
    write_gallery(flat, tmp_path / "gallery")
    path = tmp_path / "gallery" / "index.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))
    with pytest.raises(ModelFileError):
        open_gallery(tmp_path / "gallery")


def test_the_checkpoint_itself_may_search_its_exports_gallery(
    flat: Gallery, tiny_checkpoint: Path, tiny_export: str, tmp_path: Path
) -> None:
    path = tmp_path / "known.onnx"
    path.write_bytes(Path(tiny_export).read_bytes())
    identity = replace(flat.identity, checkpoint_sha256=None)
    assert identity.warn_or_refuse(flat.identity) is None  # the same file, from wherever
    with open_session(tiny_checkpoint) as torch_session:
        found = identity_of(torch_session)
    assert found.checkpoint_sha256 == found.sha256
    recorded = replace(flat.identity, checkpoint_sha256=found.sha256)
    assert recorded.warn_or_refuse(found) is None


SMALLER = PreprocessingSpec(24, 24)
IDENTITY = ModelIdentity(
    file="a.onnx",
    sha256="1" * 64,
    checkpoint_sha256="c" * 64,
    precision="fp32",
    embedding_dim=8,
    pooling={"num_prototypes": 4},
    preprocessing=PreprocessingSpec(32, 32),
)


@pytest.mark.parametrize(
    ("changes", "outcome"),
    [
        ({}, None),
        ({"sha256": "2" * 64}, None),
        ({"sha256": "2" * 64, "pooling": None}, None),
        ({"sha256": "2" * 64, "precision": "fp16"}, "index is in fp32.*queries are in fp16"),
        ({"sha256": "2" * 64, "checkpoint_sha256": "d" * 64}, "different checkpoints"),
        ({"sha256": "2" * 64, "checkpoint_sha256": None}, "no manifest beside it"),
        ({"sha256": "2" * 64, "pooling": {"num_prototypes": 5}}, "pooling has different settings"),
        ({"sha256": "2" * 64, "embedding_dim": 9}, "pooling has different settings"),
        ({"preprocessing": PreprocessingSpec(64, 64)}, "prepare images differently"),
        (
            {"sha256": "2" * 64, "preprocessing": PreprocessingSpec(64, 64)},
            "prepare images differently",
        ),
    ],
)
def test_which_model_may_search(changes: dict, outcome: str | None) -> None:
    other = replace(IDENTITY, **changes)
    if outcome is None:
        assert IDENTITY.warn_or_refuse(other) is None
    elif "precision" in changes:
        warning = IDENTITY.warn_or_refuse(other)
        assert warning is not None
        assert "fp32" in warning
        assert "fp16" in warning
    else:
        with pytest.raises(UsageError, match=outcome):
            IDENTITY.warn_or_refuse(other)


def test_a_solver_that_stopped_too_early_is_warned_of(
    tiny_checkpoint: Path, tmp_path: Path
) -> None:
    """Both of one checkpoint: one step of the paper's iteration, and as many as it takes."""
    early, enough = tmp_path / "early.onnx", tmp_path / "enough.onnx"
    model = load_checkpoint(tiny_checkpoint)
    export_onnx(model, early, ExportOptions(solver="fixed-point", iterations=1))
    export_onnx(model, enough, ExportOptions())
    found = []
    for path in (early, enough):
        with open_session(path) as session:
            found.append(replace(identity_of(session), checkpoint_sha256="c" * 64))
    warning = found[0].warn_or_refuse(found[1])
    assert warning is not None
    assert "index: 1 fixed-point step and not converged; queries: converged" in warning
    other_file = replace(found[1], sha256="2" * 64)
    assert found[1].warn_or_refuse(other_file) is None
    assert found[0].warn_or_refuse(replace(other_file, solution=None)) is None


def test_a_query_by_another_model_is_refused(
    flat: Gallery, embeddings, tiny_export: str, tmp_path: Path
) -> None:
    """Files that differ in their manifest alone: another checkpoint, another precision."""
    manifest = read_sidecar(tiny_export)
    recorded = replace(flat, identity=replace(flat.identity, checkpoint_sha256="c" * 64))
    for number, (changes, refused) in enumerate(
        [
            ({"source_sha256": "c" * 64, "precision": "fp16"}, False),
            ({"source_sha256": "d" * 64}, True),
        ]
    ):
        path = tmp_path / f"{number}.onnx"
        model = onnx.load(tiny_export)
        model.doc_string = str(number)
        del model.metadata_props[:]
        onnx.save(model, path)
        write_sidecar(replace(manifest, **changes, sha256=sha256_of(path)), path)
        with open_session(path) as other:
            if refused:
                with pytest.raises(UsageError, match="different checkpoints"):
                    recorded.search(identity_of(other), embeddings[:1], 1)
            else:
                assert "fp16" in (recorded.search(identity_of(other), embeddings[:1], 1)[1] or "")
