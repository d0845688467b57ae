"""Read files from elsewhere: only regular files. `arrays` reads arrays, which needs numpy."""

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
    """A path is a pipe, a socket or a device instead of a regular file."""


def require_regular(path: str | os.PathLike[str]) -> None:
    """Raise unless a path is a regular file, since reading a pipe could wait forever.

    Raises:
        NotRegularError: the path is something else.
        IsADirectoryError: the path is a folder.
        OSError: the path does not exist, or the system denies access to it.
    """
    mode = os.stat(path).st_mode
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), os.fspath(path))
    if not stat.S_ISREG(mode):
        kind = next((words for test, words in _KINDS if test(mode)), "something else")
        raise NotRegularError(errno.EINVAL, f"expected a regular file, got {kind}", os.fspath(path))


def open_regular(path: str | os.PathLike[str]) -> BinaryIO:
    """Open a regular file to read its bytes. Raises as `require_regular` does."""
    require_regular(path)
    return open(path, "rb")


def read_regular_text(path: str | os.PathLike[str], encoding: str = "utf-8") -> str:
    """Return a regular file's text. Raises as `require_regular` does, and `UnicodeDecodeError`."""
    require_regular(path)
    return Path(path).read_text(encoding=encoding)
