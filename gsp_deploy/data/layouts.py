"""Where a published data set is below the folder that the user names, or what is there instead."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from gsp_deploy.data.folders import existing_folder
from gsp_deploy.errors import DataError
from gsp_deploy.images.formats import readable_suffixes

# Archives, and mirrors of them, wrap a data set in one or two folders.
_DEEPEST = 2
_TABLES = (".parquet", ".arrow")
_RECORDS = (".tfrecord", ".tfrecords")
_ARCHIVES = (".zip", ".tgz", ".tar", ".gz", ".7z", ".rar")
_FEWEST_CLASSES = 2
_PARTS = ("train", "test", "val", "valid")
_OF_PRODUCTS = "_final"


def root_with(root: str | os.PathLike[str], marks: Sequence[str], layout: str) -> Path:
    """Return the folder that holds one of the `marks`: `root`, or one up to two levels below.

    The shallowest is taken, and of those the first by its name.

    Raises:
        DataError: there is none; the line says what is there instead.
    """
    folder = existing_folder(root)
    for candidate in _folders(folder):
        if any((candidate / mark).is_file() for mark in marks):
            return candidate
    raise missing(folder, marks[0], layout)


def missing(folder: Path, name: str, layout: str) -> DataError:
    """Return the error that a file of a layout is not there, and what layout may be instead."""
    other = other_layout(folder)
    return DataError(
        f"{folder}: {name} is missing; expected {layout}{f'. There {other}' if other else ''}"
    )


def other_layout(folder: Path) -> str | None:
    """Return what kind of layout a folder has, as in `are 3 .parquet files: ...`, or None."""
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
    """Return the folder whose children hold images directly, or that has such trees as parts."""
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
