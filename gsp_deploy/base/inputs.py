"""Reading files from elsewhere: regular files only, and no memory beyond what a file can fill."""

from __future__ import annotations

import errno
import math
import os
import stat
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.lib import format as npy

_KINDS = (
    (stat.S_ISFIFO, "a pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)


class NotRegularError(OSError):
    """A path leads to a pipe, a socket or a device where a regular file is wanted."""


def require_regular(path: str | os.PathLike[str]) -> None:
    """Raise unless a path leads to a regular file: reading a pipe could wait without end.

    Raises:
        NotRegularError: it leads to something else.
        IsADirectoryError: it leads to a folder.
        OSError: nothing is there, or it may not be looked at.
    """
    mode = os.stat(path).st_mode
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), os.fspath(path))
    if not stat.S_ISREG(mode):
        kind = next((words for test, words in _KINDS if test(mode)), "something else")
        raise NotRegularError(
            errno.EINVAL, f"expected a regular file, and this is {kind}", os.fspath(path)
        )


def open_regular(path: str | os.PathLike[str]) -> BinaryIO:
    """Open a regular file for reading bytes. Raises as `require_regular` does."""
    require_regular(path)
    return open(path, "rb")


def read_regular_text(path: str | os.PathLike[str], encoding: str = "utf-8") -> str:
    """Return a regular file's text. Raises as `require_regular` does, and `UnicodeDecodeError`."""
    require_regular(path)
    return Path(path).read_text(encoding=encoding)


def read_array(path: str | os.PathLike[str]) -> np.ndarray:
    """Return the array of a `.npy` file whose length is what its header promises.

    The header is held against the file's own length before memory is asked for, and an array of
    Python objects, which would be unpickled, is refused.

    Raises:
        ValueError: it is no such file.
        OSError: it cannot be read, or is no regular file.
    """
    with open_regular(path) as stream:
        readers = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}
        version = npy.read_magic(stream)
        if version not in readers:
            raise ValueError(f"expected a .npy file of format 1.0 or 2.0, got {version}")
        shape, by_column, kind = readers[version](stream)
        if kind.hasobject:
            raise ValueError("expected numbers, got Python objects")
        promised = math.prod(shape) * kind.itemsize
        there = os.fstat(stream.fileno()).st_size - stream.tell()
        if min(shape, default=0) < 0 or promised != there:
            raise ValueError(
                f"the header promises {promised:,} bytes of shape {shape}, and {there:,} follow"
            )
        flat = np.frombuffer(stream.read(there), kind)
    return flat.reshape(shape, order="F" if by_column else "C")
