"""Read three benchmarks of deep metric learning from their usual folder layouts.

Each reader takes the folder that the archive unpacks to, or its parent, and uses the zero-shot
split of the literature. Images are used whole; bounding boxes are ignored.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from gsp_deploy.base.inputs import read_regular_text
from gsp_deploy.data.images import Dataset
from gsp_deploy.data.layouts import root_with
from gsp_deploy.data.records import Record, dataset_from_records
from gsp_deploy.errors import DataError

PRODUCT_RANKS = (1, 10, 100, 1000)
IN_SHOP_RANKS = (1, 10, 20, 30)

_CUB_LAYOUT = "CUB_200_2011/ with images/, images.txt and image_class_labels.txt"
_PRODUCTS_LAYOUT = (
    "Stanford_Online_Products/ with Ebay_train.txt, Ebay_test.txt and the *_final/ folders"
)
_IN_SHOP_LAYOUT = "In-Shop's Eval/list_eval_partition.txt beside Img/img/ (or img/)"


def read_cub(root: str | os.PathLike[str], *, strict: bool = True) -> Dataset:
    """Read CUB-200-2011: classes 1 to 100 train, 101 to 200 test.

    Raises:
        DataError: an annotation file is missing or damaged, or listed images are missing. With
            `strict=False` missing images are left out and noted instead.
    """
    folder = root_with(root, ["images.txt"], _CUB_LAYOUT)
    labels_file = folder / "image_class_labels.txt"
    paths = {row[0]: row[1] for row in _rows(folder / "images.txt", 2, _CUB_LAYOUT)}
    classes = {row[0]: row[1] for row in _rows(labels_file, 2, _CUB_LAYOUT)}
    if paths.keys() != classes.keys():
        raise DataError(
            f"{folder}: images.txt ({len(paths)} images) and {labels_file.name} "
            f"({len(classes)}) do not list the same images; unpack the archive again"
        )
    listed = sorted((_number(classes[key], labels_file), key) for key in paths)
    records = [
        Record(f"images/{paths[key]}", paths[key].split("/")[0], "train" if c <= 100 else "test")
        for c, key in listed
    ]
    return dataset_from_records("cub", folder, records, strict=strict)


def read_products(root: str | os.PathLike[str], *, strict: bool = True) -> Dataset:
    """Read Stanford Online Products: 11,318 classes train, 11,316 other classes test.

    Raises:
        DataError: as `read_cub`.
    """
    folder = root_with(root, ["Ebay_train.txt"], _PRODUCTS_LAYOUT)
    records = [
        Record(path, f"{path.split('/')[0].removesuffix('_final')}_{class_id}", part)
        for part in ("train", "test")
        for _, class_id, _, path in _rows(folder / f"Ebay_{part}.txt", 4, _PRODUCTS_LAYOUT)[1:]
    ]
    return dataset_from_records("sop", folder, records, recall_ranks=PRODUCT_RANKS, strict=strict)


def read_in_shop(root: str | os.PathLike[str], *, strict: bool = True) -> Dataset:
    """Read In-Shop Clothes Retrieval: a training part, and queries that search a gallery.

    Raises:
        DataError: as `read_cub`.
    """
    names = ("Eval/list_eval_partition.txt", "Anno/list_eval_partition.txt",
             "list_eval_partition.txt")  # fmt: skip
    folder = root_with(root, names, _IN_SHOP_LAYOUT)
    table = next(folder / name for name in names if (folder / name).is_file())
    images = _in_shop_images(folder)
    promised = "".join(_lines(table, _IN_SHOP_LAYOUT)[:1]).strip()
    rows = _rows(table, 3, _IN_SHOP_LAYOUT, skip=2)
    if promised != str(len(rows)):
        raise DataError(
            f"{table}: expected the number of images from its first line ({promised!r}), "
            f"got {len(rows)}; unpack the archive again"
        )
    for path, _, part in rows:
        if part not in ("train", "query", "gallery"):
            raise DataError(f"{table}: expected train, query or gallery for {path}, got {part!r}")
    records = [Record(path, item, part) for path, item, part in sorted(rows, key=_by_item)]
    return dataset_from_records(
        "inshop", images, records, recall_ranks=IN_SHOP_RANKS, strict=strict
    )


def _by_item(row: Sequence[str]) -> tuple[str, str]:
    return row[1], row[0]


def _in_shop_images(folder: Path) -> Path:
    """Return the folder in which the listed paths `img/...` begin."""
    for candidate in (folder / "Img", folder, folder.parent / "Img", folder.parent):
        if (candidate / "img").is_dir():
            return candidate
    return folder


def _lines(path: Path, layout: str) -> list[str]:
    try:
        return read_regular_text(path).splitlines()
    except FileNotFoundError as error:
        raise DataError(f"{path} is missing; expected {layout}") from error
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read as text ({error})") from error


def _rows(path: Path, columns: int, layout: str, skip: int = 0) -> list[list[str]]:
    """Return a text table's rows, split at white space into `columns` entries each."""
    rows = [line.split() for line in _lines(path, layout)[skip:] if line.strip()]
    for number, row in enumerate(rows, start=skip + 1):
        if len(row) != columns:
            raise DataError(
                f"{path}, line {number}: expected {columns} columns, got {len(row)}; "
                "unpack the archive again"
            )
    return rows


def _number(text: str, path: Path) -> int:
    try:
        return int(text)
    except ValueError as error:
        raise DataError(f"{path}: expected a class number, got {text!r}") from error
