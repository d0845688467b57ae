"""Only regular files are read, and only arrays that match the length of their file."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import numpy as np
import pytest
from numpy.lib import format as npy

from gsp_deploy.base.arrays import read_array
from gsp_deploy.base.inputs import (
    NotRegularError,
    open_regular,
    read_regular_text,
    require_regular,
)


@pytest.mark.parametrize(
    ("kind", "words"),
    [("pipe", "a pipe"), ("socket", "a socket"), ("device", "a device")],
)
def test_what_is_no_regular_file_is_named_and_not_opened(
    tmp_path: Path, kind: str, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # a socket's path must be short
    path = Path(kind)
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "socket":
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(kind)
    else:
        path.symlink_to("/dev/zero")
    for read in (require_regular, open_regular, read_regular_text, read_array):
        with pytest.raises(NotRegularError, match=f"expected a regular file, got {words}"):
            read(path)


def test_a_folder_is_refused_as_the_system_refuses_it(tmp_path: Path) -> None:
    with pytest.raises(IsADirectoryError):
        open_regular(tmp_path)


def test_regular_files_and_links_to_them_are_read(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("héllo", encoding="utf-8")
    (tmp_path / "b").symlink_to(tmp_path / "a")
    assert read_regular_text(tmp_path / "b") == "héllo"
    with pytest.raises(FileNotFoundError):
        read_regular_text(tmp_path / "c")


@pytest.mark.parametrize(
    "array",
    [
        np.arange(24, dtype=np.float32).reshape(2, 3, 4),
        np.asfortranarray(np.arange(6).reshape(2, 3)),
        np.zeros((0, 3), np.uint8),
        np.array(3.5),
        np.array(["a", "bc"]),
    ],
)
def test_arrays_come_back_as_they_were_saved(tmp_path: Path, array: np.ndarray) -> None:
    np.save(tmp_path / "a.npy", array)
    found = read_array(tmp_path / "a.npy")
    assert found.dtype == array.dtype
    np.testing.assert_array_equal(found, array)


@pytest.mark.parametrize(
    "shape", [(1_000_000_000_000, 3), (2**62, 2**62), (-1, 4), (2, 2), (4,), (2, 0)]
)
def test_a_header_that_its_file_does_not_fill_is_refused(
    tmp_path: Path, shape: tuple[int, ...]
) -> None:
    path = tmp_path / "a.npy"
    with path.open("wb") as stream:
        header = {"descr": "<f4", "fortran_order": False, "shape": shape}
        npy.write_array_header_1_0(stream, header)
        stream.write(bytes(12))
    with pytest.raises(
        ValueError, match=r"the header promises .* bytes for shape .*, but 12 follow"
    ):
        read_array(path)


def test_objects_and_other_files_are_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.array([{}], object), allow_pickle=True)
    with pytest.raises(ValueError, match="got Python objects"):
        read_array(tmp_path / "a.npy")
    (tmp_path / "b.npy").write_bytes(b"not an array")
    with pytest.raises(ValueError, match="magic"):
        read_array(tmp_path / "b.npy")
