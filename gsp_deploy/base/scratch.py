"""The hidden folder beside an output in which it is made, and what killed runs left of theirs."""

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

from gsp_deploy.base.moves import JOURNALS, NEW, OLD, finish, is_unfinished
from gsp_deploy.errors import OutputError

if sys.platform == "win32":  # without such locks nobody's folder is taken for left behind
    _USER = 0

    def _hold(lock: TextIO, *, wait: bool) -> None:
        raise OSError

else:
    import fcntl

    _USER = os.geteuid()

    def _hold(lock: TextIO, *, wait: bool) -> None:
        fcntl.flock(lock, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))


# What a folder of ours holds, and nothing else: what is being made, whose it is, and what is left
# to be moved.
_LOCK = "lock"
_CONTENTS = frozenset({_LOCK, NEW, OLD}) | JOURNALS


@contextmanager
def scratch_beside(target: Path) -> Iterator[Path]:
    """Yield an empty folder on the file system of `target`; it is gone when the block ends.

    It is `.NAME.xxxxxxxx/files`, whose owner holds a lock on `.NAME.xxxxxxxx/lock` for as long as
    it lives. SIGKILL lets nobody tidy up, but it frees the lock: what a killed run was amid moving
    is put where it belongs before the block begins, and what killed runs left is removed when it
    ends without an error, that is when the new output stands.

    Raises:
        OutputError: the system does not let the folder be made, or what stands in the block.
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
            if not is_unfinished(place):  # or moving back failed, and the next run does it
                try:
                    _remove(place)
                except KeyboardInterrupt:
                    _remove(place)
                    raise


@contextmanager
def refusals_of(target: Path) -> Iterator[None]:
    """Turn the system's refusals on the way to `target` into one error that names it.

    Raises:
        OutputError: an `OSError` came, or such an error of a file in the scratch folder, of which
            nobody has been told.
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
    """Put where they belong the files that a killed run was amid moving to `target`.

    A reader calls it before it opens `target`, a writer before it writes. It trusts a folder that
    this user made and whose owner has died, and leaves alone what it may not change.
    """
    for place in _scratch_folders(target):
        if not is_unfinished(place):
            continue
        with suppress(OSError, ValueError, TypeError, RecursionError), _taken_over(place):
            finish(place)
            _remove(place)


def remove_left_behind(target: Path) -> None:
    """Remove scratch folders of this target whose owner has died; others are not touched."""
    for place in _scratch_folders(target):
        if not _holds_what_ours_do(place):
            continue
        with suppress(OSError):
            place.rmdir()  # empty: its owner died before it locked it, or while tidying up
        with suppress(OSError), _taken_over(place):
            _remove(place)


@contextmanager
def _taken_over(place: Path) -> Iterator[None]:
    """Hold the lock of a folder whose owner has died.

    Raises:
        OSError: its owner lives, it is another user's, or what is in it is not what ours hold.
    """
    if place.is_symlink() or place.stat().st_uid != _USER or not _holds_what_ours_do(place):
        raise PermissionError(errno.EPERM, "not a folder of this user's", str(place))
    with (place / _LOCK).open("r+") as lock:
        _hold(lock, wait=False)
        yield


def _scratch_folders(target: Path) -> list[Path]:
    """Return what is named as scratch of this target; a big folder costs a few milliseconds."""
    prefix = f".{target.name}."
    named = re.compile(re.escape(prefix) + r"[a-z0-9_]{8}")
    with suppress(OSError):  # a folder that may be written and not listed
        names = [name for name in os.listdir(target.parent) if name.startswith(prefix)]
        return [target.parent / name for name in names if named.fullmatch(name)]
    return []


def _own_folder(target: Path) -> tuple[Path, TextIO]:
    """Make a folder and return it with its lock, held."""
    while True:
        place = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
        try:
            with suppress(FileNotFoundError):  # taken for left behind before it was locked
                return place, _locked(place)
        except BaseException:
            _remove(place)
            raise


def _locked(place: Path) -> TextIO:
    """Lock a new folder and make it ready; return the lock."""
    lock = (place / _LOCK).open("w")
    try:
        with suppress(OSError):  # a file system without locks: nobody takes it for left behind
            _hold(lock, wait=True)
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
    """Remove the folder, its journal first, its lock last; the rest is left to the next run."""
    with suppress(OSError):
        for journal in JOURNALS:
            (place / journal).unlink(missing_ok=True)
    for folder in (NEW, OLD):
        shutil.rmtree(place / folder, ignore_errors=True)
    with suppress(OSError):
        (place / _LOCK).unlink(missing_ok=True)
        place.rmdir()
