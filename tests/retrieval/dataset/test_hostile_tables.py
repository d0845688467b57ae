"""Tables of embeddings from elsewhere: each defect is one line of error, and no memory is lost."""

from __future__ import annotations

import io
import os
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as arrow
import pyarrow.parquet as parquet
import pytest

from gsp_deploy.errors import DataError
from gsp_deploy.retrieval.dataset import open_embeddings
from gsp_deploy.retrieval.dataset.parts import check_pages, read_footer

DIM = 4


def npy(array: np.ndarray) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


def claimed(shape: str, kind: str = "<f4") -> bytes:
    """Return a `.npy` header of a shape, with 32 bytes behind it."""
    text = f"{{'descr': {kind!r}, 'fortran_order': False, 'shape': {shape}}}\n".encode()
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text + bytes(32)


IDS = npy(np.array(["a", "b"]))
VECTORS = npy(np.eye(2, DIM, dtype=np.float32))


def write_npz(path: Path, ids: bytes, vectors: bytes, kind: int = zipfile.ZIP_STORED) -> None:
    with zipfile.ZipFile(path, "w", kind) as archive:
        archive.writestr("ids.npy", ids)
        archive.writestr("embeddings.npy", vectors)


@pytest.mark.parametrize(
    ("ids", "vectors", "said"),
    [
        (IDS, claimed("(1000000000, 750)"), "promises 3,000,000,000,000 bytes"),
        (IDS, claimed("(-2, -4)"), "bytes for shape"),
        (IDS, claimed(f"({10**60}, 8)"), "bytes for shape"),
        (IDS, claimed(f"({10**60}, 0)"), "bytes for shape"),
        (IDS, claimed("(1, 1)", "|O"), "Python objects"),
        (IDS, npy(np.eye(2, DIM, dtype=np.complex64)), "got complex64"),
        (IDS, npy(np.array([["a"], ["b"]])), "got <U1"),
        (IDS, b"text", "not a table"),
        (claimed("(100000000000,)", "<U9"), VECTORS, "promises 3,600,000,000,000 bytes"),
        (npy(np.array("a")), VECTORS, r"expected ids \(n,\) of text"),
        (npy(np.array([["a", "b"]])), VECTORS, r"expected ids \(n,\) of text"),
        (npy(np.array([b"a", b"b"])), VECTORS, r"expected ids \(n,\) of text"),
        (claimed("(8,)", "<U1").replace(bytes(32), b"\xff" * 32), VECTORS, "ids are damaged"),
    ],
    ids=range(13),
)
def test_a_npz_is_checked_before_memory_is_allocated(
    ids: bytes, vectors: bytes, said: str, tmp_path: Path
) -> None:
    write_npz(tmp_path / "t.npz", ids, vectors)
    with pytest.raises(DataError, match=said) as caught:
        open_embeddings(tmp_path / "t.npz").read()
    assert "\n" not in str(caught.value)


def central(content: bytearray) -> int:
    """Return the place of the last entry in a zip archive's directory."""
    return content.rfind(b"PK\x01\x02")


def damaged_content(content: bytearray) -> None:
    place = content.find(b"embeddings.npy") + len(b"embeddings.npy") + 6
    content[place : place + 2] = b"\xff\xff"


def unknown_compression(content: bytearray) -> None:
    content[central(content) + 10] = 99


def encrypted(content: bytearray) -> None:
    content[central(content) + 8] |= 1


@pytest.mark.parametrize("harm", [damaged_content, unknown_compression, encrypted])
def test_a_damaged_archive_is_refused(harm: Callable[[bytearray], None], tmp_path: Path) -> None:
    path = tmp_path / "t.npz"
    write_npz(path, IDS, VECTORS, zipfile.ZIP_DEFLATED)
    assert open_embeddings(path).read().ids == ("a", "b")
    content = bytearray(path.read_bytes())
    harm(content)
    path.write_bytes(content)
    with pytest.raises(DataError, match="not a table of embeddings"):
        open_embeddings(path).read()


def lists(values: list[object]) -> arrow.Array:
    return arrow.FixedSizeListArray.from_arrays(arrow.array(values), len(values) // 2)


GOOD = {"id": ["a", "b"], "embedding": lists([1.0] * 8)}


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        ({"embedding": [[1.0], [2.0, 3.0]]}, "lists of numbers of one length, got list<"),
        ({"embedding": lists([{"a": 1}] * 8)}, "lists of numbers of one length"),
        ({"embedding": lists(["x"] * 8)}, "lists of numbers of one length"),
        ({"embedding": ["x", "y"]}, "got string"),
        ({"id": [None, "a"]}, "row without one"),
        ({"id": [b"a", b"b"]}, "expected column 'id' to be text, got binary"),
        ({"scale": ["x", "y"]}, "expected column 'scale' to be numbers"),
    ],
)
def test_the_columns_of_a_parquet_table_have_their_types(
    columns: dict[str, object], said: str, tmp_path: Path
) -> None:
    parquet.write_table(arrow.table({**GOOD, **columns}), tmp_path / "t.parquet")
    with pytest.raises(DataError, match=said):
        open_embeddings(tmp_path / "t.parquet").read()


def test_a_column_that_is_there_twice_is_refused(tmp_path: Path) -> None:
    table = arrow.table([["a", "b"], ["a", "b"], GOOD["embedding"]], ["id", "id", "embedding"])
    parquet.write_table(table, tmp_path / "t.parquet")
    with pytest.raises(DataError, match="expected one column 'id'"):
        open_embeddings(tmp_path / "t.parquet").read()


@pytest.mark.parametrize("name", ["t.npz", "t.parquet"])
def test_a_number_beyond_float32_becomes_infinity(name: str, tmp_path: Path) -> None:
    huge = np.full((2, DIM), 1e300)
    write_npz(tmp_path / "t.npz", IDS, npy(huge))
    parquet.write_table(
        arrow.table({**GOOD, "embedding": lists([1e300] * 8)}), tmp_path / "t.parquet"
    )
    assert np.isinf(open_embeddings(tmp_path / name).read().embeddings).all()


def test_a_pipe_in_the_place_of_a_part_is_refused(tmp_path: Path) -> None:
    pipe = tmp_path / "part-00000.parquet"
    os.mkfifo(pipe)
    for read in (read_footer, check_pages):
        with pytest.raises(DataError, match="got a pipe"):
            read(pipe)
