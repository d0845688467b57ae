"""Reading files from elsewhere: regular files only. Arrays are in `arrays`, which needs numpy."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path
from typing import BinaryIO

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
