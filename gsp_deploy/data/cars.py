"""Reader of Cars196, whose annotations are MATLAB files in two layouts."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import scipy.io

from gsp_deploy.data.folders import existing_folder
from gsp_deploy.data.images import Dataset
from gsp_deploy.data.records import Record, dataset_from_records
from gsp_deploy.errors import DataError

TRAINING_CLASSES = 98

_LAYOUT = (
    "cars_annos.mat beside car_ims/, or cars_train/ and cars_test/ with devkit/cars_train_annos.mat"
    ", devkit/cars_meta.mat and cars_test_annos_withlabels.mat"
)


class _Car(NamedTuple):
    class_id: int
    path: str


def read_cars(root: str | os.PathLike[str], *, strict: bool = True) -> Dataset:
    """Read Cars196: classes 1 to 98 train, 99 to 196 test, from either published layout.

    The classification split into cars_train/ and cars_test/ plays no part here.

    Raises:
        DataError: an annotation file is missing or damaged, or listed images are missing
            (`strict`; otherwise they are left out and noted).
    """
    folder = existing_folder(root)
    whole = folder / "cars_annos.mat"
    cars, names = _read_whole(whole) if whole.is_file() else _read_devkit(folder)
    records = [
        Record(
            car.path,
            f"{car.class_id:03d}.{_name_of(car, names, folder)}",
            "train" if car.class_id <= TRAINING_CLASSES else "test",
        )
        for car in sorted(cars)
    ]
    return dataset_from_records("cars", folder, records, strict=strict)


def _read_whole(path: Path) -> tuple[list[_Car], list[str]]:
    contents = _load(path)
    return _cars(path, contents, "relative_im_path", ""), _class_names(path, contents)


def _read_devkit(folder: Path) -> tuple[list[_Car], list[str]]:
    train = _find(folder, "cars_train_annos.mat")
    test = _find(folder, "cars_test_annos_withlabels.mat")
    meta = _find(folder, "cars_meta.mat")
    cars = _cars(train, _load(train), "fname", "cars_train/")
    cars += _cars(test, _load(test), "fname", "cars_test/")
    return cars, _class_names(meta, _load(meta))


def _find(folder: Path, name: str) -> Path:
    for path in (folder / "devkit" / name, folder / name):
        if path.is_file():
            return path
    raise DataError(f"{folder}: {name} is missing; expected {_LAYOUT}")


def _load(path: Path) -> dict[str, Any]:
    try:
        return scipy.io.loadmat(str(path), simplify_cells=True)
    # A damaged file makes scipy raise what it happens to trip over, zlib.error and TypeError too.
    except Exception as error:
        raise DataError(
            f"{path}: not a MATLAB file that scipy can read ({error}); unpack the archive again"
        ) from error


def _cars(path: Path, contents: dict[str, Any], path_field: str, prefix: str) -> list[_Car]:
    try:
        annotations = np.atleast_1d(contents["annotations"])
        return [_Car(int(each["class"]), prefix + str(each[path_field])) for each in annotations]
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise DataError(
            f"{path}: expected annotations with {path_field} and class, could not find {error}"
        ) from error


def _class_names(path: Path, contents: dict[str, Any]) -> list[str]:
    if "class_names" not in contents:
        raise DataError(f"{path}: expected the variable class_names, which is missing")
    return [str(name) for name in np.atleast_1d(contents["class_names"])]


def _name_of(car: _Car, names: Sequence[str], folder: Path) -> str:
    if not 1 <= car.class_id <= len(names):
        raise DataError(
            f"{folder}: {car.path} has class {car.class_id}, but {len(names)} classes have names"
        )
    return names[car.class_id - 1]
