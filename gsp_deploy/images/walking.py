"""The one walk through a folder of images: what it takes, in which order, and what it passes."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from gsp_deploy.base.words import counted
from gsp_deploy.errors import DataError

# Folders of copies and leftovers that systems and tools put among a user's own, in lower case:
# a NAS's thumbnails and bins, a Mac's archives, a file system's and Windows's own.
_NOT_THE_USERS = frozenset(
    {
        "@eadir", "#recycle", "#snapshot", "__macosx", "lost+found", "$recycle.bin",
        "system volume information",
    }
)  # fmt: skip
_HIDDEN, _NO_SUFFIX = "hidden", "without a suffix"
_NOT_REGULAR = "broken links or no regular files"


@dataclass(frozen=True)
class PassedOver:
    """What a walk left out.

    Attributes:
        files: how many files of each suffix (in lower case), `hidden` for those with a dot first.
        folders: how many folders of each name were not entered.
        repeated: folders that are linked to and were entered before.
    """

    files: Mapping[str, int] = field(default_factory=dict)
    folders: Mapping[str, int] = field(default_factory=dict)
    repeated: int = 0

    def __add__(self, other: PassedOver) -> PassedOver:
        return PassedOver(
            Counter(self.files) + Counter(other.files),
            Counter(self.folders) + Counter(other.folders),
            self.repeated + other.repeated,
        )

    def __bool__(self) -> bool:
        return bool(self.files or self.folders or self.repeated)

    def __str__(self) -> str:
        """Return `passed over 3 files: 2 .txt, 1 .heic; 1 folder: 1 @eaDir`, or nothing."""
        groups = []
        for noun, counts in (("file", self.files), ("folder", self.folders)):
            if counts:
                groups.append(f"{counted(sum(counts.values()), noun)}: {_listed(counts)}")
        if self.repeated:
            groups.append(f"{counted(self.repeated, 'link')} to folders that were searched already")
        return f"passed over {'; '.join(groups)}" if groups else ""


@dataclass(frozen=True)
class Walk:
    """The images below a folder, sorted, and what was passed over on the way."""

    files: tuple[Path, ...]
    passed_over: PassedOver


def walk_images(folder: str | os.PathLike[str], suffixes: Collection[str]) -> Walk:
    """Find the image files below a folder, to the bottom.

    Files are sorted by the parts of their paths, each by its characters' code points. Hidden files
    and folders (a dot first) and the folders that systems leave behind (`@eaDir`, `__MACOSX`,
    `lost+found` and the like) are passed over. A link to a folder is followed where that folder was
    not entered before: the user's real folders come first, then the links, sorted. A link to a
    file is that file under another name.

    Args:
        folder: where to begin; its own name is not looked at.
        suffixes: those of images, in lower case and with the dot.

    Raises:
        DataError: a folder may not be read.
    """
    walk = _Walker(frozenset(suffixes))
    walk.enter(Path(folder))
    return Walk(tuple(sorted(walk.found)), walk.passed_over)


def sort_out(paths: Iterable[Path], suffixes: Collection[str]) -> Walk:
    """Hold single files against the same rules, in the order in which they come."""
    walk = _Walker(frozenset(suffixes))
    for path in paths:
        walk.take(path, is_file=path.is_file())
    return Walk(tuple(walk.found), walk.passed_over)


class _Walker:
    """What one walk has found so far."""

    def __init__(self, suffixes: frozenset[str]) -> None:
        self._suffixes = suffixes
        self._entered: set[str] = set()
        self._files: Counter[str] = Counter()
        self._folders: Counter[str] = Counter()
        self._repeated = 0
        self.found: list[Path] = []

    @property
    def passed_over(self) -> PassedOver:
        return PassedOver(dict(self._files), dict(self._folders), self._repeated)

    def enter(self, folder: Path) -> None:
        """Walk the real folders, then each linked one in order, and so on in what it leads to."""
        waiting = [folder]
        while waiting:
            start = waiting.pop(0)
            linked: list[Path] = []
            self._descend(start, linked)
            waiting = sorted([*waiting, *linked])

    def _descend(self, start: Path, linked: list[Path]) -> None:
        if self._was_entered(start):
            self._repeated += 1
            return
        deeper = [start]
        while deeper:
            folder = deeper.pop()
            self._entered.add(os.path.realpath(folder))
            for entry in _entries(folder):
                path = folder / entry.name
                if not entry.is_dir():
                    self.take(path, is_file=entry.is_file())
                elif _is_left_out(entry.name):
                    self._folders[entry.name] += 1
                elif entry.is_symlink():
                    linked.append(path)
                elif self._was_entered(path):
                    self._repeated += 1
                else:
                    deeper.append(path)

    def take(self, path: Path, *, is_file: bool) -> None:
        """Add a file to what was found, or to what is passed over."""
        suffix = path.suffix.lower()
        if path.name.startswith("."):
            self._files[_HIDDEN] += 1
        elif suffix not in self._suffixes:
            self._files[suffix or _NO_SUFFIX] += 1
        elif not is_file:
            self._files[_NOT_REGULAR] += 1
        else:
            self.found.append(path)

    def _was_entered(self, folder: Path) -> bool:
        return os.path.realpath(folder) in self._entered


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return sorted(entries, key=lambda entry: entry.name)
    except OSError as error:
        raise DataError(f"{folder}: cannot be searched for images: {error.strerror}") from error


def _is_left_out(name: str) -> bool:
    return name.startswith(".") or name.lower() in _NOT_THE_USERS


def _listed(counts: Mapping[str, int]) -> str:
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return ", ".join(f"{count:,} {name}" for name, count in ordered)
