"""Walk through a folder of images in a fixed order, and count the files that are skipped."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from gsp_deploy.base.words import counted
from gsp_deploy.errors import DataError

# Folders that systems and tools create among the user's, in lower case: a NAS's thumbnails and
# recycle bins, leftovers of a Mac's archives, and folders of file systems and of Windows.
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
    """Counts of what a walk skipped.

    Attributes:
        files: number of files by suffix (in lower case); `hidden` for names that begin with a dot.
        folders: number of folders that were not entered, by name.
        repeated: number of links to folders that the walk had entered before.
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
    """The images below a folder, sorted, and the counts of what was skipped."""

    files: tuple[Path, ...]
    passed_over: PassedOver


def walk_images(folder: str | os.PathLike[str], suffixes: Collection[str]) -> Walk:
    """Find the image files in a folder and all folders below it.

    Files are sorted by the parts of their paths, by code points. Hidden files and folders (their
    names begin with a dot) and folders that systems create (`@eaDir`, `__MACOSX`, `lost+found` and
    others) are skipped. The walk enters real folders first, then links to folders in sorted order,
    and skips a link to a folder that it has entered before. A link to a file counts as a file.

    Args:
        folder: the folder to start from; its own name may begin with a dot.
        suffixes: suffixes of images, in lower case with the dot.

    Raises:
        DataError: the system denies access to a folder.
    """
    walk = _Walker(frozenset(suffixes))
    walk.enter(Path(folder))
    return Walk(tuple(sorted(walk.found)), walk.passed_over)


def sort_out(paths: Iterable[Path], suffixes: Collection[str]) -> Walk:
    """Apply the same rules to single files, and keep their order."""
    walk = _Walker(frozenset(suffixes))
    for path in paths:
        walk.take(path, is_file=path.is_file())
    return Walk(tuple(walk.found), walk.passed_over)


class _Walker:
    """The state of one walk."""

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
        """Walk the real folders, then the linked folders in order, then links inside those."""
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
        """Add a file to the found files, or to the counts of skipped ones."""
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
