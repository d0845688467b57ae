"""Read Cars196; its annotations are MATLAB files in two layouts."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from gsp_deploy.data.images import Dataset
from gsp_deploy.data.layouts import missing, root_with
from gsp_deploy.data.matlab import read_matlab
from gsp_deploy.data.records import Record, dataset_from_records
from gsp_deploy.errors import DataError

TRAINING_CLASSES = 98

_LAYOUT = (
    "cars_annos.mat beside car_ims/, or cars_train/ and cars_test/ with devkit/cars_train_annos.mat"
    ", devkit/cars_meta.mat and cars_test_annos_withlabels.mat"
)
_WHOLE, _TRAIN, _TEST = (
    "cars_annos.mat", "cars_train_annos.mat", "cars_test_annos_withlabels.mat"
)  # fmt: skip
_UNLABELLED = "cars_test_annos.mat"
# Folders of the devkit's files in different mirrors, below the folder with the images.
_DEVKITS = ("devkit", "car_devkit/devkit", "car_devkit", "")


class _Car(NamedTuple):
    class_id: int
    path: str


def read_cars(root: str | os.PathLike[str], *, strict: bool = True) -> Dataset:
    """Read Cars196: classes 1 to 98 train, 99 to 196 test, from either published layout.

    Both may be nested as in mirrors: below `stanford_cars/`, or with the images in
    `cars_train/cars_train/`. The split into cars_train/ and cars_test/ is for classification and is
    ignored.

    Raises:
        DataError: an annotation file is missing or damaged, the images belong to the other layout,
            or listed images are missing. With `strict=False` missing images are left out and noted
            instead.
    """
    marks = [*(f"{kit}/{_TRAIN}" if kit else _TRAIN for kit in _DEVKITS), _WHOLE]
    folder = root_with(root, marks, _LAYOUT)
    if (folder / _WHOLE).is_file() and not _has_devkit(folder):
        cars, names = _read_whole(folder)
    else:
        cars, names = _read_devkit(folder)
    records = [
        Record(
            car.path,
            f"{car.class_id:03d}.{_name_of(car, names, folder)}",
            "train" if car.class_id <= TRAINING_CLASSES else "test",
        )
        for car in sorted(cars)
    ]
    return dataset_from_records("cars", folder, records, strict=strict)


def _has_devkit(folder: Path) -> bool:
    """Whether the devkit's layout is complete, and there is no car_ims/ of the other layout."""
    kit = all(any((folder / kit / name).is_file() for kit in _DEVKITS) for name in (_TRAIN, _TEST))
    return kit and not (folder / "car_ims").is_dir()


def _read_whole(folder: Path) -> tuple[list[_Car], list[str]]:
    if not (folder / "car_ims").is_dir() and (folder / "cars_train").is_dir():
        raise DataError(
            f"{folder}: {_WHOLE} lists the images of car_ims/, but the folder has cars_train/ and "
            f"cars_test/ with other numbers; add car_ims/, or put {_TRAIN} and {_TEST} "
            "and cars_meta.mat into devkit/"
        )
    path = folder / _WHOLE
    contents = read_matlab(path, ("relative_im_path", "class"))
    return _cars(path, contents, "relative_im_path", ""), _class_names(path, contents)


def _read_devkit(folder: Path) -> tuple[list[_Car], list[str]]:
    train, test, meta = _find(folder, _TRAIN), _find(folder, _TEST), _find(folder, "cars_meta.mat")
    cars = []
    for path, images in ((train, "cars_train"), (test, "cars_test")):
        contents = read_matlab(path, ("fname", "class"))
        cars += _cars(path, contents, "fname", _nested(folder, images))
    return cars, _class_names(meta, read_matlab(meta, ()))


def _nested(folder: Path, name: str) -> str:
    """Return the images' folder with a slash; in Kaggle's copy it contains itself once more."""
    return f"{name}/{name}/" if (folder / name / name).is_dir() else f"{name}/"


def _find(folder: Path, name: str) -> Path:
    for kit in _DEVKITS:
        if (folder / kit / name).is_file():
            return folder / kit / name
    if name == _TEST and any((folder / kit / _UNLABELLED).is_file() for kit in _DEVKITS):
        raise DataError(
            f"{folder}: {_UNLABELLED} does not contain the classes of the test images; "
            f"put {_TEST} beside it"
        )
    raise missing(folder, name, _LAYOUT)


def _cars(path: Path, contents: dict[str, Any], path_field: str, prefix: str) -> list[_Car]:
    cars = []
    for entry in contents.get("annotations", []):
        number, name = entry.get("class"), entry.get(path_field)
        if not isinstance(number, int) or not isinstance(name, str):
            break
        cars.append(_Car(number, prefix + name))
    if not cars or len(cars) != len(contents["annotations"]):
        raise DataError(
            f"{path}: expected annotations with {path_field} and class, got {len(cars)} that have "
            "both; unpack the archive again"
        )
    return cars


def _class_names(path: Path, contents: dict[str, Any]) -> list[str]:
    if "class_names" not in contents:
        raise DataError(f"{path}: expected the variable class_names, which is missing")
    return list(contents["class_names"])


def _name_of(car: _Car, names: Sequence[str], folder: Path) -> str:
    if not 1 <= car.class_id <= len(names):
        raise DataError(
            f"{folder}: {car.path} has class {car.class_id}, but {len(names)} classes have names; "
            "unpack the archive again"
        )
    return names[car.class_id - 1]
