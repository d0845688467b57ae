"""Build a checked data set from a list of (path, class, part); all readers of files use it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from gsp_deploy.data.images import (
    STANDARD_RANKS,
    Dataset,
    ImageFiles,
    LabelledImages,
    first_repeated,
)
from gsp_deploy.errors import DataError

PARTS = ("train", "test", "query", "gallery")


class Record(NamedTuple):
    """One listed image: its path below the root, its class, and its part."""

    path: str
    class_name: str
    part: str


def dataset_from_records(
    name: str,
    root: Path,
    records: Sequence[Record],
    *,
    recall_ranks: tuple[int, ...] = STANDARD_RANKS,
    strict: bool = True,
    notes: Iterable[str] = (),
    halved: bool = False,
) -> Dataset:
    """Build a data set from listed files; classes are numbered in the order of the records.

    If listed images are missing, this raises an error with their number and the first names; with
    `strict=False` it leaves them out and counts them in the data set's notes. `halved` means that
    the parts follow from a convention and are not named in the data. Images are not decoded here.
    A class with a single image is kept and noted.

    Raises:
        DataError: nothing is listed, an image is listed twice (it could be in two parts), or
            listed images are missing and `strict` is true.
    """
    if not records:
        raise DataError(f"{root}: no image is listed there; check that this is the right folder")
    if repeated := first_repeated(record.path for record in records):
        raise DataError(f"{root}: the image {repeated} is listed twice; list it once")
    present, missing = _existing(root, records)
    all_notes = list(notes)
    if missing:
        message = f"{len(missing)} of {len(records)} listed images are missing: {_some(missing)}"
        if not present:
            raise DataError(
                f"{root}: none of the {len(records)} listed images is there, so this is another "
                f"layout or another folder; expected the first one at {root / missing[0]}"
            )
        if strict:
            raise DataError(
                f"{root}: {message}; put them in place, or take them off the list "
                "(from Python, strict=False leaves them out)"
            )
        all_notes.append(f"{message}; they are left out")
    return _assemble(name, root, present, recall_ranks, all_notes, halved)


def first_half_trains(paths_and_classes: Sequence[tuple[str, str]]) -> list[Record]:
    """Assign each class a part: the first half of the sorted names trains, the rest tests.

    >>> [record.part for record in first_half_trains([("1.png", "cat"), ("2.png", "ant")])]
    ['train', 'test']
    """
    classes = sorted({class_name for _, class_name in paths_and_classes})
    training = set(classes[: len(classes) // 2])
    return [
        Record(path, class_name, "train" if class_name in training else "test")
        for path, class_name in sorted(paths_and_classes, key=lambda pair: (pair[1], pair[0]))
    ]


def _assemble(
    name: str,
    root: Path,
    records: Sequence[Record],
    recall_ranks: tuple[int, ...],
    notes: list[str],
    halved: bool,
) -> Dataset:
    source = ImageFiles(root, tuple(record.path for record in records))
    parts = np.array([record.part for record in records])
    train = _labelled(source, records, np.flatnonzero(parts == "train"))
    test = _labelled(source, records, np.flatnonzero(parts != "train"))
    query = gallery = None
    evaluated = parts[parts != "train"]
    kinds = set(evaluated.tolist())
    if kinds & {"query", "gallery"}:
        if kinds != {"query", "gallery"}:
            raise DataError(
                f"{root}: expected a query and a gallery part, and no test part beside them, "
                f"got {', '.join(sorted(kinds))}"
            )
        query = test.subset(np.flatnonzero(evaluated == "query"))
        gallery = test.subset(np.flatnonzero(evaluated == "gallery"))
        notes += _unmatched_note(query, gallery)
    if halved:
        notes += _single_image_note("", train.followed_by(test))
    else:
        notes += _single_image_note("test ", test) if query is None else []
        notes += _single_image_note("training ", train) + _shared_classes_note(train, test)
    return Dataset(name, train, test, query, gallery, recall_ranks, halved, tuple(notes))


def _labelled(
    source: ImageFiles, records: Sequence[Record], positions: np.ndarray
) -> LabelledImages:
    listed = [records[i] for i in positions]
    names = tuple(dict.fromkeys(record.class_name for record in listed))
    number = {class_name: label for label, class_name in enumerate(names)}
    labels = np.array([number[record.class_name] for record in listed], dtype=np.int64)
    return LabelledImages(source, positions, tuple(r.path for r in listed), labels, names)


def _existing(root: Path, records: Sequence[Record]) -> tuple[list[Record], list[str]]:
    present, missing = [], []
    for record in records:
        if (root / record.path).is_file():
            present.append(record)
        else:
            missing.append(record.path)
    return present, missing


def _single_image_note(part: str, images: LabelledImages) -> list[str]:
    counts = np.bincount(images.labels, minlength=images.num_classes)
    single = [images.class_names[c] for c in np.flatnonzero(counts == 1)]
    if not single:
        return []
    return [f"{len(single)} {part}class(es) have one image, so it has no match: {_some(single)}"]


def _unmatched_note(query: LabelledImages, gallery: LabelledImages) -> list[str]:
    absent = sorted(set(query.labels.tolist()) - set(gallery.labels.tolist()))
    if not absent:
        return []
    names = [query.class_names[label] for label in absent]
    return [f"{len(names)} class(es) have queries but no gallery image: {_some(names)}"]


def _shared_classes_note(train: LabelledImages, test: LabelledImages) -> list[str]:
    shared = sorted(set(train.class_names) & set(test.class_names))
    if not shared:
        return []
    return [
        f"not a zero-shot split: {len(shared)} class(es) are in both the training and the test "
        f"part: {_some(shared)}"
    ]


def _some(names: Sequence[str], limit: int = 3) -> str:
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + more
