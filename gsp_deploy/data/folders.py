"""Read your own images: a folder per class, or a CSV with path, label and split."""

from __future__ import annotations

import csv
import os
from collections.abc import Sequence
from pathlib import Path

from gsp_deploy.base.inputs import require_regular
from gsp_deploy.base.words import counted
from gsp_deploy.data.images import Dataset
from gsp_deploy.data.records import PARTS, Record, dataset_from_records, first_half_trains
from gsp_deploy.errors import DataError
from gsp_deploy.images.formats import readable_suffixes
from gsp_deploy.images.walking import walk_images

# Many published trees have a validation part but no test part; it then takes the test's place.
_VALIDATION = ("val", "valid", "validation")


def read_folder(root: str | os.PathLike[str]) -> Dataset:
    """Read a tree with one folder per class; the folder's name is the class's name.

    Sub-trees `train/` and `test/` (or `val/`; or `query/` and `gallery/`) are the parts. Without
    them the data set is `halved`: the first half of the class folders in sorted order trains and
    the rest tests, the zero-shot convention of the literature. Images may be deeper inside a class
    folder. The data set's notes count the files that `walk_images` skips and the images outside
    class folders.

    Raises:
        DataError: the folder is missing, or no class folder in it contains an image.
    """
    folder = existing_folder(root)
    walk = walk_images(folder, readable_suffixes())
    listed = [file.relative_to(folder).parts for file in walk.files]
    trees = _trees(folder, listed)
    parts = _chosen_parts(set(trees))
    has_parts = ("train" in parts and len(parts) > 1) or (trees and trees.keys() == parts.keys())
    if has_parts:
        chosen = {trees[tree]: part for tree, part in parts.items()}
        records = [
            Record("/".join(path), path[1], chosen[path[0]])
            for path in listed
            if path[0] in chosen and len(path) > 2
        ]
    else:
        records = first_half_trains([("/".join(path), path[0]) for path in listed if len(path) > 1])
    if not records:
        raise DataError(
            f"{folder}: expected a folder per class with images "
            f"({', '.join(sorted(readable_suffixes()))}) inside, found none"
            f"{f'; {walk.passed_over}' if walk.passed_over else ''}"
        )
    notes = [str(walk.passed_over)] if walk.passed_over else []
    if unused := len(listed) - len(records):
        notes.append(
            f"{counted(unused, 'image')} not used: outside the class folders of the "
            f"{'parts ' + ', '.join(parts) if has_parts else 'data set'}"
        )
    return dataset_from_records(folder.name, folder, records, notes=notes, halved=not has_parts)


def read_csv(path: str | os.PathLike[str], *, strict: bool = True) -> Dataset:
    """Read a CSV with the columns `path`, `label` and, optionally, `split`.

    Paths are relative to the CSV's folder (a link's own, if it is a link), or absolute. `split` is
    train, test (or val), query or gallery; without that column the data set is `halved`, and the
    first half of the sorted labels trains. Further columns are ignored.

    Raises:
        DataError: the file is missing or is not such a CSV (the message names the line), or listed
            images are missing and `strict` is true.
    """
    table = Path(path).absolute()
    records, halved = _csv_records(table)
    notes = []
    splits = {record.part for record in records}
    if splits & {"test", "query", "gallery"} and (unused := splits & set(_VALIDATION)):
        notes.append(f"the {', '.join(sorted(unused))} rows are not used: there are test rows")
    chosen = _chosen_parts(splits)
    kept = [
        record._replace(part=chosen[record.part]) for record in records if record.part in chosen
    ]
    return dataset_from_records(
        table.stem, table.parent, kept, strict=strict, notes=notes, halved=halved
    )


def existing_folder(root: str | os.PathLike[str]) -> Path:
    """Return `root` as an absolute path, or raise `DataError` if it is not a folder."""
    folder = Path(root)
    if not folder.is_dir():
        kind = "is a file" if folder.exists() else "does not exist"
        raise DataError(f"expected a folder of images, but {folder} {kind}; pass another path")
    return folder.resolve()


def _chosen_parts(splits: set[str]) -> dict[str, str]:
    """Return the data set's part for each split name that is used."""
    chosen = {split: split for split in PARTS if split in splits}
    if not set(chosen) - {"train"}:
        chosen |= {split: "test" for split in _VALIDATION if split in splits}
    return chosen


def _trees(folder: Path, listed: Sequence[tuple[str, ...]]) -> dict[str, str]:
    """Return the folders with images, by their names in lower case."""
    trees: dict[str, str] = {}
    for name in sorted({path[0] for path in listed if len(path) > 1}):
        other = trees.setdefault(name.lower(), name)
        if other != name and name.lower() in (*PARTS, *_VALIDATION):
            raise DataError(
                f"{folder}: expected one {name.lower()} part, found {other} and {name}; move one"
            )
    return trees


def _csv_records(table: Path) -> tuple[list[Record], bool]:
    """Return the rows, and whether the data set is halved because there is no column `split`.

    A row's part is its split in lower case.
    """
    try:
        require_regular(table)
        with open(table, newline="", encoding="utf-8-sig") as stream:
            reader = csv.DictReader(stream)
            columns = reader.fieldnames or []
            if not {"path", "label"} <= set(columns):
                raise DataError(
                    f"{table}: expected the columns path,label,split in the first line, "
                    f"got {','.join(columns) or 'nothing'}"
                )
            rows = [(reader.line_num, row) for row in reader]
    except FileNotFoundError as error:
        raise DataError(f"expected a CSV file, but {table} does not exist") from error
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{table}: cannot be read as CSV in UTF-8 ({error})") from error
    pairs = [_path_and_label(table, line, row) for line, row in rows]
    if "split" not in columns:
        return first_half_trains(pairs), True
    return [
        Record(*pair, _split(table, line, row))
        for pair, (line, row) in zip(pairs, rows, strict=True)
    ], False


def _path_and_label(table: Path, line: int, row: dict[str, str | None]) -> tuple[str, str]:
    path, label = ((row[column] or "").strip() for column in ("path", "label"))
    if not path or not label:
        raise DataError(f"{table}, line {line}: expected a path and a label, but one is empty")
    return path, label


def _split(table: Path, line: int, row: dict[str, str | None]) -> str:
    split = (row["split"] or "").strip().lower()
    if split not in (*PARTS, *_VALIDATION):
        raise DataError(
            f"{table}, line {line}: expected a split of {', '.join(PARTS)} or val, got {split!r}"
        )
    return split
