"""Find a published data set below the user's folder, or describe what the folder has instead."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from gsp_deploy.data.folders import existing_folder
from gsp_deploy.errors import DataError
from gsp_deploy.images.formats import readable_suffixes

# Archives and their mirrors put a data set inside one or two further folders.
_DEEPEST = 2
_TABLES = (".parquet", ".arrow")
_RECORDS = (".tfrecord", ".tfrecords")
_ARCHIVES = (".zip", ".tgz", ".tar", ".gz", ".7z", ".rar")
_FEWEST_CLASSES = 2
_PARTS = ("train", "test", "val", "valid")
_OF_PRODUCTS = "_final"


def root_with(root: str | os.PathLike[str], marks: Sequence[str], layout: str) -> Path:
    """Return the folder that contains one of the `marks`: `root`, or one up to two levels below.

    Of several, the one at the highest level and first by name is taken.

    Raises:
        DataError: there is none; the message says what the folder has instead.
    """
    folder = existing_folder(root)
    for candidate in _folders(folder):
        if any((candidate / mark).is_file() for mark in marks):
            return candidate
    raise missing(folder, marks[0], layout)


def missing(folder: Path, name: str, layout: str) -> DataError:
    """Return the error for a missing file of a layout, with the layout found instead, if any."""
    other = other_layout(folder)
    return DataError(
        f"{folder}: {name} is missing; expected {layout}{f'. There {other}' if other else ''}"
    )


def other_layout(folder: Path) -> str | None:
    """Return a folder's layout and advice, as in `is the archive cub.tgz: unpack it`, or None.

    The words follow `There` in the error line.
    """
    names = [name for candidate in _folders(folder) for name in _file_names(candidate)]
    for suffixes, advice in (
        (_TABLES, "write their images as files and read them with csv:FILE"),
        (_RECORDS, "write their images as files and read them with csv:FILE"),
    ):
        if found := [name for name in names if name.lower().endswith(suffixes)]:
            return f"are tables of a data set hub ({found[0]} and {len(found) - 1} more): {advice}"
    per_class = _class_folders(folder)
    if per_class is not None:
        return f"is a folder per class in {per_class}: read it as folder:{per_class}"
    if found := [name for name in names if name.lower().endswith(_ARCHIVES)]:
        return f"is the archive {found[0]}: unpack it first"
    return None


def _folders(folder: Path) -> Iterator[Path]:
    """Yield a folder and those below it, level by level, each level sorted."""
    level = [folder]
    for _ in range(_DEEPEST + 1):
        yield from level
        level = [child for parent in level for child in _children(parent)]


def _children(folder: Path) -> list[Path]:
    try:
        with os.scandir(folder) as entries:
            names = [e.name for e in entries if e.is_dir() and not e.name.startswith(".")]
    except OSError:
        return []
    return [folder / name for name in sorted(names)]


def _file_names(folder: Path) -> list[str]:
    try:
        with os.scandir(folder) as entries:
            return sorted(entry.name for entry in entries if entry.is_file())
    except OSError:
        return []


def _class_folders(folder: Path) -> Path | None:
    """Return the first folder with class folders of images in it, or in its train/ or test/."""
    for candidate in _folders(folder):
        trees = [candidate, *(c for c in _children(candidate) if c.name.lower() in _PARTS)]
        if any(_holds_classes(tree) for tree in trees):
            return candidate
    return None


def _holds_classes(folder: Path) -> bool:
    children = [child for child in _children(folder) if not child.name.endswith(_OF_PRODUCTS)]
    with_images = [
        child
        for child in children[:_FEWEST_CLASSES]
        if any(Path(name).suffix.lower() in readable_suffixes() for name in _file_names(child))
    ]
    return len(with_images) >= _FEWEST_CLASSES
