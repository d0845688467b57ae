"""IDX files: the header is checked against the data before memory is allocated."""

from __future__ import annotations

import gzip
import struct
from pathlib import Path

import numpy as np
import pytest

from gsp_deploy.data.idx import read_idx
from gsp_deploy.errors import DataError


def idx(shape: tuple[int, ...], content: bytes) -> bytes:
    return bytes([0, 0, 8, len(shape)]) + struct.pack(f">{len(shape)}I", *shape) + content


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_the_array_is_as_the_header_says(tmp_path: Path, pack) -> None:
    path = tmp_path / "a.idx"
    path.write_bytes(pack(idx((2, 3), bytes(range(6)))))
    np.testing.assert_array_equal(read_idx(path), np.arange(6, dtype=np.uint8).reshape(2, 3))


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
@pytest.mark.parametrize(
    ("shape", "content"),
    [
        ((2**31, 2**31, 4), b""),
        ((0, 2**31, 2**31), b"x"),
        ((65536,) * 4, bytes(10)),
        ((2, 3), bytes(5)),
        ((2, 3), bytes(7)),
        ((1,) * 80, b"a"),
    ],
)
def test_sizes_that_the_file_does_not_fill_are_refused(
    tmp_path: Path, pack, shape: tuple[int, ...], content: bytes
) -> None:
    path = tmp_path / "a.idx"
    path.write_bytes(pack(idx(shape, content)))
    with pytest.raises(DataError, match="expected"):
        read_idx(path)


def test_what_unpacks_to_more_than_it_says_is_not_unpacked_whole(tmp_path: Path) -> None:
    path = tmp_path / "a.idx.gz"
    path.write_bytes(gzip.compress(idx((2,), bytes(50_000_000))))
    with pytest.raises(DataError, match="got more"):
        read_idx(path)
