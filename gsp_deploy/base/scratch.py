"""Hidden folders in which outputs are written, and the removal of those that killed runs left."""

from __future__ import annotations

import errno
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TextIO

from gsp_deploy.base.locks import hold
from gsp_deploy.base.moves import JOURNALS, NEW, OLD, finish, is_unfinished
from gsp_deploy.errors import OutputError

if sys.platform == "win32":  # no locks here, so no folder ever counts as abandoned
    _USER = 0
else:
    _USER = os.geteuid()
# A scratch folder contains these and nothing else: the new files, the old ones that they replace,
# the owner's lock, and the journal of moves.
_LOCK = "lock"
_CONTENTS = frozenset({_LOCK, NEW, OLD}) | JOURNALS


@contextmanager
def scratch_beside(target: Path) -> Iterator[Path]:
    """Yield an empty folder on the file system of `target`, and remove it when the block ends.

    The folder is `.NAME.xxxxxxxx/files`. Its owner locks `.NAME.xxxxxxxx/lock` as long as it
    lives. SIGKILL prevents any tidying up, but it releases the lock, so the next run sees
    that the folder is abandoned. Before the block begins, the moves that a killed run had begun
    are completed; after the block succeeds, abandoned folders are removed.

    Raises:
        OutputError: the system refuses to create the folder, or refuses a write in the block.
    """
    with refusals_of(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        settle(target)
        place, lock = _own_folder(target)
        try:
            with lock:
                yield place / NEW
                remove_left_behind(target)
        finally:
            if not is_unfinished(place):  # if moving back failed, the next run completes it
                try:
                    _remove(place)
                except KeyboardInterrupt:
                    _remove(place)
                    raise


@contextmanager
def refusals_of(target: Path) -> Iterator[None]:
    """Turn the system's errors in the block into one error that names `target`.

    Raises:
        OutputError: the block raised an `OSError`, or an `OutputError` that names a file in the
            scratch folder, which means nothing to the user.
    """
    try:
        yield
    except OSError as error:
        raise OutputError(target, error.strerror or str(error)) from error
    except OutputError as error:
        if any(part.startswith(f".{target.name}.") for part in error.path.parts):
            raise OutputError(target, error.reason) from error
        raise


def settle(target: Path) -> None:
    """Complete the moves to `target` that a killed run had begun.

    A reader calls this before it opens `target`, a writer before it writes. It acts only on
    folders that this user created and that no living process owns.
    """
    for place in _scratch_folders(target):
        if not is_unfinished(place):
            continue
        with suppress(OSError, ValueError, TypeError, RecursionError), _taken_over(place):
            finish(place)
            _remove(place)


def remove_left_behind(target: Path) -> None:
    """Remove this target's scratch folders if their owner has died; leave all others."""
    for place in _scratch_folders(target):
        if not _holds_what_ours_do(place):
            continue
        with suppress(OSError):
            place.rmdir()  # empty: its owner died before it took the lock, or while tidying up
        with suppress(OSError), _taken_over(place):
            _remove(place)


@contextmanager
def _taken_over(place: Path) -> Iterator[None]:
    """Hold the lock of a scratch folder after its owner has died.

    Raises:
        OSError: the owner lives, another user owns the folder, or it is not a scratch folder.
    """
    if place.is_symlink() or place.stat().st_uid != _USER or not _holds_what_ours_do(place):
        raise PermissionError(errno.EPERM, "not a folder of this user's", str(place))
    with (place / _LOCK).open("r+") as lock:
        hold(lock)
        yield


def _scratch_folders(target: Path) -> list[Path]:
    """Return the folders named as this target's scratch; a big folder takes a few milliseconds."""
    prefix = f".{target.name}."
    named = re.compile(re.escape(prefix) + r"[a-z0-9_]{8}")
    with suppress(OSError):  # the folder may allow writing but not listing
        names = [name for name in os.listdir(target.parent) if name.startswith(prefix)]
        return [target.parent / name for name in names if named.fullmatch(name)]
    return []


def _own_folder(target: Path) -> tuple[Path, TextIO]:
    """Create a folder, take its lock, and return both."""
    while True:
        place = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
        try:
            with suppress(FileNotFoundError):  # another run removed it before it was locked
                return place, _locked(place)
        except BaseException:
            _remove(place)
            raise


def _locked(place: Path) -> TextIO:
    """Lock a new folder, create `files/` in it, and return the lock."""
    lock = (place / _LOCK).open("w")
    try:
        with suppress(OSError):  # a file system without locks: no run counts it as abandoned
            hold(lock, wait=True)
        (place / NEW).mkdir()
    except BaseException:
        lock.close()
        raise
    return lock


def _holds_what_ours_do(place: Path) -> bool:
    with suppress(OSError):
        found = {path.name for path in place.iterdir()}
        return not found or {_LOCK} <= found <= _CONTENTS
    return False


def _remove(place: Path) -> None:
    """Remove the folder, its journal first, its lock last; the next run removes what remains."""
    with suppress(OSError):
        for journal in JOURNALS:
            (place / journal).unlink(missing_ok=True)
    for folder in (NEW, OLD):
        shutil.rmtree(place / folder, ignore_errors=True)
    with suppress(OSError):
        (place / _LOCK).unlink(missing_ok=True)
        place.rmdir()
