"""Locks on open files, which the system releases when the process ends, however it ends."""

from __future__ import annotations

import sys
from typing import TextIO

if sys.platform == "win32":  # no such locks there

    def hold(file: TextIO | int, *, shared: bool = False, wait: bool = False) -> None:
        raise OSError

else:
    import fcntl

    def hold(file: TextIO | int, *, shared: bool = False, wait: bool = False) -> None:
        """Lock an open file or folder until it is closed.

        Args:
            file: the file, or its descriptor.
            shared: others may hold it too, if they share it as well.
            wait: wait for the others.

        Raises:
            BlockingIOError: another process holds it.
            OSError: this system or this file system has no such locks.
        """
        kind = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
        fcntl.flock(file, kind | (0 if wait else fcntl.LOCK_NB))
