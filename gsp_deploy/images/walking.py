"""Walk through a folder of images in a fixed order, and count the files that are skipped."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePath

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
HIDDEN, _NO_SUFFIX = "hidden", "without a suffix"
NOT_REGULAR = "broken links or no regular files"


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
            dict(Counter(self.files) + Counter(other.files)),
            dict(Counter(self.folders) + Counter(other.folders)),
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


@dataclass(frozen=True)
class Survey:
    """The folders that a walk enters, counted but not listed.

    Attributes:
        start: the folder to start from.
        suffixes: suffixes of images, in lower case with the dot.
        images: number of images.
        passed_over: counts of what is skipped.
        folders: every folder that the walk enters.
    """

    start: Path
    suffixes: frozenset[str]
    images: int
    passed_over: PassedOver
    folders: frozenset[str]

    def files(self) -> Iterator[Path]:
        """Yield the images, sorted; only the entries of the folders on the way are in memory."""
        open_folders = [iter(entries(self.start))]
        while open_folders:
            entry = next(open_folders[-1], None)
            if entry is None:
                open_folders.pop()
            elif not is_folder(entry):
                if reason_to_pass(entry.name, self.suffixes) is None and is_file(entry):
                    yield Path(entry.path)
            elif str(Path(entry.path)) in self.folders:
                open_folders.append(iter(entries(Path(entry.path))))


def survey_images(folder: str | os.PathLike[str], suffixes: Collection[str]) -> Survey:
    """Count the images in a folder and all folders below it.

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
    return Survey(
        Path(folder), walk.suffixes, walk.images, walk.passed_over, frozenset(walk.folders)
    )


def walk_images(folder: str | os.PathLike[str], suffixes: Collection[str]) -> Walk:
    """List the image files in a folder and all folders below it; see `survey_images`.

    Raises:
        DataError: the system denies access to a folder.
    """
    survey = survey_images(folder, suffixes)
    return Walk(tuple(survey.files()), survey.passed_over)


def sort_out(paths: Iterable[Path], suffixes: Collection[str]) -> Walk:
    """Apply the same rules to single files, and keep their order."""
    walk = _Walker(frozenset(suffixes))
    found = [path for path in paths if walk.take(path.name, is_file=path.is_file())]
    return Walk(tuple(found), walk.passed_over)


def reason_to_pass(name: str, suffixes: Collection[str]) -> str | None:
    """Return the word under which a file that is no image is counted, by its name; None for images.

    >>> reason_to_pass(".a.png", {".png"}), reason_to_pass("b.txt", {".png"})
    ('hidden', '.txt')
    """
    suffix = PurePath(name).suffix.lower()
    if name.startswith("."):
        return HIDDEN
    return None if suffix in suffixes else suffix or _NO_SUFFIX


def is_left_out(name: str) -> bool:
    """Whether a folder is not the user's, by its name: hidden, or created by a system."""
    return name.startswith(".") or name.lower() in _NOT_THE_USERS


class _Walker:
    """The state of one walk."""

    def __init__(self, suffixes: frozenset[str]) -> None:
        self.suffixes = suffixes
        self._entered: set[str] = set()
        self._files: Counter[str] = Counter()
        self._left_out: Counter[str] = Counter()
        self._repeated = 0
        self.images = 0
        self.folders: set[str] = set()

    @property
    def passed_over(self) -> PassedOver:
        return PassedOver(dict(self._files), dict(self._left_out), self._repeated)

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
            self.folders.add(str(folder))
            for entry in entries(folder):
                path = folder / entry.name
                if not is_folder(entry):
                    self.images += self.take(entry.name, is_file=is_file(entry))
                elif is_left_out(entry.name):
                    self._left_out[entry.name] += 1
                elif entry.is_symlink():
                    linked.append(path)
                elif self._was_entered(path):
                    self._repeated += 1
                else:
                    deeper.append(path)

    def take(self, name: str, *, is_file: bool) -> bool:
        """Whether a file is an image; if not, count it among the skipped ones."""
        reason = reason_to_pass(name, self.suffixes) or (None if is_file else NOT_REGULAR)
        if reason is not None:
            self._files[reason] += 1
        return reason is None

    def _was_entered(self, folder: Path) -> bool:
        return os.path.realpath(folder) in self._entered


def entries(folder: Path) -> list[os.DirEntry[str]]:
    """Return a folder's entries, sorted by name.

    Raises:
        DataError: the system denies access.
    """
    try:
        with os.scandir(folder) as found:
            return sorted(found, key=lambda entry: entry.name)
    except OSError as error:
        raise DataError(f"{folder}: cannot be searched for images: {error.strerror}") from error


def is_folder(entry: os.DirEntry[str]) -> bool:
    """Whether an entry is a folder or a link to one; a link to itself is neither."""
    try:
        return entry.is_dir()
    except OSError:
        return False


def is_file(entry: os.DirEntry[str]) -> bool:
    """Whether an entry is a regular file or a link to one; a link to itself is neither."""
    try:
        return entry.is_file()
    except OSError:
        return False


def _listed(counts: Mapping[str, int]) -> str:
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return ", ".join(f"{count:,} {name}" for name, count in ordered)
