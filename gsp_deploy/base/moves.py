"""Move finished files to their names: all of them or none, even if the process is killed.

One file, or one folder, needs one system call. Several files need several calls, and SIGKILL may
come between any two. So a journal beside the files lists the moves first:

1. As soon as the journal `forward` exists, the new files are the valid ones. The old main file
   moves away first and the new main file arrives last, so new files are never beside the old main
   file.
2. If a move fails, `forward` is renamed to `back`, and the old files return.
3. `finish` completes either journal. The next run calls it, and so does the next reader.

The folder for the moves is `.NAME.xxxxxxxx`, beside the output (see `gsp_deploy.base.scratch`).
In it, `files/` contains the new files and `old/` the files that they replace.
"""

from __future__ import annotations

import ctypes
import errno
import json
import os
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

NEW, OLD = "files", "old"
FORWARD, BACK, DRAFT = "forward", "back", "draft"
JOURNALS = frozenset({FORWARD, BACK, DRAFT})

_AT_FDCWD, _RENAME_EXCHANGE = -100, 2  # from Linux's headers
_UNKNOWN_TO_FILE_SYSTEM = (errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP)


@dataclass(frozen=True)
class Move:
    """One file or folder to move: its name, and whether it replaces an old one."""

    name: str
    replaces: bool


def move_together(place: Path, names: Sequence[str]) -> None:
    """Move each `files/NAME` to NAME beside `place`, the main one last.

    Raises:
        OSError: a move fails; all files are then as they were before.
    """
    if len(names) == 1 and _moved_at_once(place / NEW / names[0], place.parent / names[0]):
        return
    moves = [Move(name, os.path.lexists(place.parent / name)) for name in names]
    _write_down(place, moves)
    try:
        _forward(place, moves)
    except BaseException:
        os.replace(place / FORWARD, place / BACK)
        _back(place, moves)
        (place / BACK).unlink()
        raise
    (place / FORWARD).unlink()


def is_unfinished(place: Path) -> bool:
    """Whether moves were begun here and are not complete."""
    return (place / FORWARD).is_file() or (place / BACK).is_file()


def finish(place: Path) -> None:
    """Complete the moves of a process that died; do nothing if it had begun none.

    Raises:
        OSError, ValueError: a file cannot be moved, or the journal is not valid.
    """
    for journal, go in ((BACK, _back), (FORWARD, _forward)):
        if (place / journal).is_file():
            go(place, _read(place / journal))
            (place / journal).unlink(missing_ok=True)
            return


def _moved_at_once(new: Path, target: Path) -> bool:
    """Move one file or folder by one system call, or return False if the system has none."""
    if new.is_dir() and target.is_dir():
        return _exchange(new, target)
    os.replace(new, target)
    return True


def _forward(place: Path, moves: Sequence[Move]) -> None:
    *others, main = moves
    _set_aside(place, main)
    for move in (*others, main):
        _set_aside(place, move)
        if os.path.lexists(place / NEW / move.name):
            os.replace(place / NEW / move.name, place.parent / move.name)


def _set_aside(place: Path, move: Move) -> None:
    """Move away the file that a new one replaces, unless it has moved already."""
    new, target = place / NEW / move.name, place.parent / move.name
    if os.path.lexists(new) and os.path.lexists(target):
        (place / OLD).mkdir(exist_ok=True)
        os.replace(target, place / OLD / move.name)


def _back(place: Path, moves: Sequence[Move]) -> None:
    for move in moves:
        new, target, old = (
            folder / move.name for folder in (place / NEW, place.parent, place / OLD)
        )
        had_its_turn = os.path.lexists(old) if move.replaces else not os.path.lexists(new)
        if had_its_turn and os.path.lexists(target):
            os.replace(target, new)
        if os.path.lexists(old):
            os.replace(old, target)


def _write_down(place: Path, moves: Sequence[Move]) -> None:
    with open(place / DRAFT, "w", encoding="ascii") as stream:
        json.dump([asdict(move) for move in moves], stream)
        stream.flush()
        os.fsync(stream.fileno())
    os.replace(place / DRAFT, place / FORWARD)


def _read(journal: Path) -> list[Move]:
    """Return the moves of a journal, or raise `ValueError` if a name leads to another folder."""
    moves = [Move(**entry) for entry in json.loads(journal.read_text(encoding="ascii"))]
    for move in moves:
        if move.name in ("", ".", "..") or os.path.basename(move.name) != move.name:
            raise ValueError(f"{journal}: {move.name!r} is not a file name")
    return moves


def _exchange(one: Path, other: Path) -> bool:
    """Swap two paths in one step, or return False if the system or file system cannot."""
    if not sys.platform.startswith("linux"):
        return False
    libc = ctypes.CDLL(None, use_errno=True)
    if not hasattr(libc, "renameat2"):
        return False
    names = (os.fsencode(path) for path in (one, other))
    first, second = ((_AT_FDCWD, ctypes.c_char_p(name)) for name in names)
    if libc.renameat2(*first, *second, _RENAME_EXCHANGE) == 0:
        return True
    number = ctypes.get_errno()
    if number in _UNKNOWN_TO_FILE_SYSTEM:
        return False
    raise OSError(number, os.strerror(number), os.fspath(other))
