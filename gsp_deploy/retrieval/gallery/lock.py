"""One change of a gallery at a time."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from gsp_deploy.base.locks import hold
from gsp_deploy.errors import UsageError


@contextmanager
def sole_change(folder: Path) -> Iterator[None]:
    """Hold a gallery while it is read, changed and replaced, so that no other change is lost.

    The system releases it when the process ends, however it ends. Searches need no lock, because a
    gallery is replaced as a whole. Where the system has no such locks, this does nothing.

    Raises:
        UsageError: another run holds the gallery.
    """
    if sys.platform == "win32":
        yield
        return
    held = os.open(folder, os.O_RDONLY)
    try:
        try:
            hold(held)
            replaced = not os.path.samestat(os.fstat(held), os.stat(folder))
        except BlockingIOError:
            replaced = True
        except OSError:  # a file system without locks
            replaced = False
        if replaced:
            raise UsageError(f"{folder}: another run is changing this gallery; wait until it ends")
        yield
    finally:
        os.close(held)
