"""Stored embeddings: every form that `embed` writes is read by one reader."""

from __future__ import annotations

import dataclasses
import json
import pickle
from pathlib import Path

import numpy as np
import pytest

from gsp_deploy.config import PreprocessingSpec
from gsp_deploy.errors import DataError, GspDeployError, UsageError
from gsp_deploy.retrieval.dataset import (
    MANIFEST,
    DatasetManifest,
    EmbeddingSettings,
    Part,
    holds_embeddings,
    open_embeddings,
    read_manifest,
    write_manifest,
)
from gsp_deploy.retrieval.dataset.layout import key_of
from gsp_deploy.retrieval.dataset.parts import (
    check_pages,
    failures_table,
    part_table,
    read_footer,
    write_part,
)
from gsp_deploy.retrieval.embedding import EmbeddingTable, write_table
from gsp_deploy.retrieval.identity import ModelIdentity

DIM = 6


def settings(storage: str = "float32") -> EmbeddingSettings:
    model = ModelIdentity(
        "m.onnx", "ab" * 32, None, "fp32", DIM, {"a": [1]}, PreprocessingSpec(8, 8)
    )
    return EmbeddingSettings(model, "a runtime", storage, ("embedding",), 4, 1, 10)


def vectors(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(count, DIM)).astype(np.float32)


def dataset(folder: Path, storage: str = "float32") -> np.ndarray:
    """Write two parts, of which the second has a failure; return the embeddings."""
    folder.mkdir()
    parts, found = [], []
    for number, count in enumerate((10, 3)):
        values = vectors(count, number)
        part = Part(number, 0, f"key {number}", count, number, True)
        names = [f"{number}/{k}.png" for k in range(count)]
        rows = part_table(names, names, {"embedding": values}, storage)
        failures = failures_table(*[["x.png"] * number] * 3)
        write_part(folder, part, settings(storage), rows, failures)
        parts.append(part)
        found.append(values)
    manifest = DatasetManifest(settings(storage), ("photos/",), 13, 1, tuple(parts))
    write_manifest(manifest, folder)
    return np.concatenate(found)


def test_the_key_of_a_part_depends_on_its_decoding_and_stays_as_it_was() -> None:
    """Parts that were written before there was a choice are those of whole images."""
    whole = settings()
    model = dataclasses.replace(whole.model, reduced_jpeg=True)
    reduced = dataclasses.replace(whole, model=model)
    known = "d26608ccc369126a362dcaf3bfcc64ad2314cfd3b232d2e7a7807620f05057ca"
    assert key_of(whole, "a source", 0) == known
    assert key_of(reduced, "a source", 0) != known


@pytest.mark.parametrize(
    ("storage", "tolerance"), [("float32", 0.0), ("float16", 2e-3), ("int8", 2e-2)]
)
def test_a_data_set_gives_its_embeddings_back(
    storage: str, tolerance: float, tmp_path: Path
) -> None:
    expected = dataset(tmp_path / "out", storage)
    stored = open_embeddings(tmp_path / "out")
    found = stored.read()
    np.testing.assert_allclose(found.embeddings, expected, atol=tolerance)
    assert found.embeddings.dtype == np.float32
    assert found.ids[0] == "0/0.png"
    assert found.ids[-1] == "1/2.png"
    assert stored.identity == settings().model
    assert read_manifest(tmp_path / "out").settings == settings(storage)


@pytest.mark.parametrize("name", ["t.npy", "t.npz", "t.parquet"])
def test_a_table_is_read_by_the_same_reader(name: str, tmp_path: Path) -> None:
    ids = tuple(f"a b/ü{k}.png" for k in range(9000))
    table = EmbeddingTable(ids, vectors(9000))
    write_table(table, tmp_path / name)
    assert holds_embeddings(tmp_path / name)
    stored = open_embeddings(tmp_path / name)
    assert [len(batch) for batch in stored] == [8192, 808]
    np.testing.assert_array_equal(stored.read().embeddings, table.embeddings)
    assert stored.read().ids == ids
    assert stored.identity is None


def test_only_the_parts_of_the_manifest_are_read(tmp_path: Path) -> None:
    expected = dataset(tmp_path / "out")
    (tmp_path / "out" / "part-00009.parquet").write_bytes(b"from an old run")
    (tmp_path / "out" / ".part-00003.parquet.abcdefgh").mkdir()
    np.testing.assert_array_equal(open_embeddings(tmp_path / "out").read().embeddings, expected)


def damage_page(part: Path) -> None:
    """Flip one bit of an embedding."""
    data = bytearray(part.read_bytes())
    count = int(part.stem == "part-00000") * 7 + 3
    place = data.index(vectors(count, int(part.stem[-1])).tobytes())
    data[place + 5] ^= 0x10
    part.write_bytes(data)


def swap_parts(part: Path) -> None:
    part.write_bytes((part.parent / "part-00000.parquet").read_bytes())


@pytest.mark.parametrize(
    ("harm", "said"),
    [
        (damage_page, "part-00001.parquet: "),
        (swap_parts, "not the part that _manifest.json lists"),
        (lambda part: part.write_bytes(part.read_bytes()[:-40]), "not a whole part"),
        (lambda part: part.unlink(), "not a whole part"),
    ],
)
def test_a_part_changed_by_hand_is_refused(harm, said: str, tmp_path: Path) -> None:
    dataset(tmp_path / "out")
    harm(tmp_path / "out" / "part-00001.parquet")
    with pytest.raises(DataError, match=said):
        open_embeddings(tmp_path / "out").read()


def test_a_damaged_page_is_found_without_a_manifest(tmp_path: Path) -> None:
    dataset(tmp_path / "out")
    part = tmp_path / "out" / "part-00000.parquet"
    check_pages(part)
    damage_page(part)
    with pytest.raises(DataError, match="damaged"):
        check_pages(part)


def test_a_footer_says_what_the_part_is(tmp_path: Path) -> None:
    dataset(tmp_path / "out", "int8")
    part, found = read_footer(tmp_path / "out" / "part-00001.parquet")
    assert part == Part(1, 0, "key 1", 3, 1, True)
    assert found == settings("int8")
    assert (tmp_path / "out" / "failures-00001.parquet").is_file()
    assert not (tmp_path / "out" / "failures-00000.parquet").exists()


def test_settings_name_what_differs() -> None:
    renamed = dataclasses.replace(settings(), model=dataclasses.replace(settings().model, file="n"))
    assert settings().differences(renamed) == ""
    other = dataclasses.replace(settings("int8"), batch=8)
    assert (
        settings().differences(other) == "storage float32 before, int8 now; batch 4 before, 8 now"
    )


@pytest.mark.parametrize(
    ("text", "error", "said"),
    [
        (None, UsageError, "has no _manifest.json"),
        ("{", DataError, "damaged"),
        ("[]", DataError, "damaged"),
        (json.dumps({"document": "embeddings", "version": 99}), DataError, "format 1"),
    ],
)
def test_a_damaged_manifest_is_one_line(
    text: str | None, error: type[GspDeployError], said: str, tmp_path: Path
) -> None:
    dataset(tmp_path / "out")
    manifest = tmp_path / "out" / MANIFEST
    manifest.unlink() if text is None else manifest.write_text(text)
    with pytest.raises(error, match=said) as caught:
        open_embeddings(tmp_path / "out")
    assert "\n" not in str(caught.value)


def test_ids_and_embeddings_must_fit(tmp_path: Path) -> None:
    write_table(EmbeddingTable(("a", "b"), vectors(2)), tmp_path / "t.npy")
    (tmp_path / "t.ids.txt").write_text("a\n")
    with pytest.raises(DataError, match=r"2 embeddings, and t\.ids\.txt has 1 ids"):
        open_embeddings(tmp_path / "t.npy").read()


@pytest.mark.parametrize("name", ["t.npy", "t.npz", "t.parquet"])
def test_a_foreign_file_is_refused_and_never_unpickled(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(pickle.dumps(["text"]))
    with pytest.raises(DataError):
        open_embeddings(tmp_path / name).read()


def test_other_files_are_not_embeddings(tmp_path: Path) -> None:
    assert not holds_embeddings(tmp_path)
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(UsageError, match="expected embeddings"):
        open_embeddings(tmp_path / "notes.txt")
