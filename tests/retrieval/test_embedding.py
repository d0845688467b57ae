"""Tables of embeddings: order, ids, broken files, formats."""

from __future__ import annotations

import tarfile
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet
import pytest
from PIL import Image

from gsp_deploy.errors import DataError, GspDeployError, UsageError
from gsp_deploy.retrieval.embedding import EmbeddingTable, write_table
from gsp_deploy.retrieval.tables import check_table_path


@pytest.fixture
def table() -> EmbeddingTable:
    embeddings = np.random.default_rng(0).normal(size=(3, 4)).astype(np.float32)
    return EmbeddingTable(("a b.png", "ä/c.jpg", "d.png"), embeddings)


def test_npy_has_its_ids_beside_it(table: EmbeddingTable, tmp_path: Path) -> None:
    written = write_table(table, tmp_path / "out.npy")
    assert written == (tmp_path / "out.npy", tmp_path / "out.ids.txt")
    np.testing.assert_array_equal(np.load(written[0]), table.embeddings)
    assert written[1].read_text(encoding="utf-8").splitlines() == list(table.ids)


def test_npz_holds_both(table: EmbeddingTable, tmp_path: Path) -> None:
    write_table(table, tmp_path / "out.npz")
    found = np.load(tmp_path / "out.npz", allow_pickle=False)
    assert tuple(found["ids"]) == table.ids
    np.testing.assert_array_equal(found["embeddings"], table.embeddings)


def test_parquet_holds_both(table: EmbeddingTable, tmp_path: Path) -> None:
    write_table(table, tmp_path / "out.parquet")
    found = pyarrow.parquet.read_table(tmp_path / "out.parquet")
    assert tuple(found["id"].to_pylist()) == table.ids
    np.testing.assert_array_equal(np.stack(found["embedding"].to_pylist()), table.embeddings)


def test_an_unknown_format_is_refused_before_any_work() -> None:
    with pytest.raises(UsageError, match=r"\.npy, \.npz, \.parquet, or .*got \.csv"):
        check_table_path(Path("out.csv"))


def test_a_failed_write_leaves_the_old_table(
    table: EmbeddingTable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "out.npz"
    target.write_bytes(b"old")

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(zipfile, "ZipFile", full)
    with pytest.raises(GspDeployError, match="No space left on device"):
        write_table(table, target)
    assert target.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [target]


def test_files_are_embedded_in_order_and_broken_ones_listed(
    tmp_path: Path, tiny_checkpoint: Path
) -> None:
    from gsp_deploy import open_session
    from gsp_deploy.images.files import ImageReader, find_images
    from gsp_deploy.retrieval.embedding import embed_files

    draw = np.random.default_rng(0)
    for k in range(7):
        pixels = draw.integers(0, 256, (40 + k, 50, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{k}.png")
    (tmp_path / "3.png").write_bytes(b"no image")
    seen: list[int] = []
    with open_session(tiny_checkpoint) as session:
        reader = ImageReader(find_images([tmp_path]), session.info.preprocessing, batch_size=2)
        table = embed_files(session, reader, seen.append)
        alone = ImageReader([tmp_path / "5.png"], session.info.preprocessing)
        expected = session.embed(next(iter(alone)).images)[0]
    assert [Path(name).name for name in table.ids] == [f"{k}.png" for k in (0, 1, 2, 4, 5, 6)]
    np.testing.assert_allclose(table.embeddings[4], expected, atol=1e-6)
    assert [failure.file.name for failure in table.failures] == ["3.png"]
    assert sum(seen) == 7


def test_a_tar_without_images_makes_no_table(tmp_path: Path, tiny_checkpoint: Path) -> None:
    from gsp_deploy import open_session
    from gsp_deploy.retrieval.embedding import embed_sources
    from gsp_deploy.sources import Sources

    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        archive.addfile(tarfile.TarInfo("notes.txt"))
    sources = Sources([str(tmp_path / "a.tar")], 8)
    with open_session(tiny_checkpoint) as session, pytest.raises(DataError, match="no image in"):
        embed_sources(session, sources, tmp_path / "t.npy")
    assert not (tmp_path / "t.npy").exists()


def test_further_columns_go_where_there_is_room_for_them(
    table: EmbeddingTable, tmp_path: Path
) -> None:
    residual = np.array([1e-7, 2e-3, np.nan], np.float32)
    certified = replace(table, columns={"residual": residual})
    write_table(certified, tmp_path / "out.npz")
    np.testing.assert_array_equal(np.load(tmp_path / "out.npz")["residual"], residual)
    write_table(certified, tmp_path / "out.parquet")
    found = pyarrow.parquet.read_table(tmp_path / "out.parquet")
    assert found.column_names == ["id", "embedding", "residual"]
    np.testing.assert_array_equal(found["residual"].to_numpy(), residual)
    with pytest.raises(UsageError, match=r"contains only the embeddings; write \.npz or \.parquet"):
        write_table(certified, tmp_path / "out.npy")
    assert not (tmp_path / "out.npy").exists()
