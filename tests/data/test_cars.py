from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from gsp_deploy.data import open_dataset
from gsp_deploy.errors import DataError

scipy_io = pytest.importorskip("scipy.io", reason="scipy is not installed")

PutImage = Callable[[str], Path]
NAMES = np.array([f"Make{c} Model {2000 + c % 12}" for c in range(1, 197)], dtype=object)


def save_annotations(
    path: Path, path_field: str, rows: list[tuple[str, int]], **more: object
) -> None:
    """Write a struct array as MATLAB does: cells of 1x1 arrays."""
    kinds = [("bbox_x1", object), ("class", object), (path_field, object)]
    annotations = np.array([(1, c, name) for name, c in rows], dtype=kinds)
    path.parent.mkdir(parents=True, exist_ok=True)
    scipy_io.savemat(path, {"annotations": annotations.reshape(1, -1), **more})


def test_the_whole_layout_trains_on_classes_1_to_98(tmp_path: Path, put_image: PutImage) -> None:
    rows = [
        ("car_ims/000003.jpg", 196),
        ("car_ims/000001.jpg", 98),
        ("car_ims/000002.jpg", 99),
        ("car_ims/000004.jpg", 1),
    ]
    for name, _ in rows:
        put_image(name)
    save_annotations(tmp_path / "cars_annos.mat", "relative_im_path", rows, class_names=NAMES)
    dataset = open_dataset(f"cars:{tmp_path}")
    assert dataset.train.class_names == ("001.Make1 Model 2001", "098.Make98 Model 2002")
    assert dataset.train.ids == ("car_ims/000004.jpg", "car_ims/000001.jpg")
    assert dataset.test.ids == ("car_ims/000002.jpg", "car_ims/000003.jpg")
    assert dataset.test.image(0).size == (6, 4)


def test_the_devkit_layout_joins_its_two_halves(tmp_path: Path, put_image: PutImage) -> None:
    for name in ("cars_train/00001.jpg", "cars_test/00001.jpg", "cars_test/00002.jpg"):
        put_image(name)
    devkit = tmp_path / "devkit"
    save_annotations(devkit / "cars_train_annos.mat", "fname", [("00001.jpg", 150)])
    # One of the published archives puts this file beside the devkit, another inside.
    save_annotations(
        tmp_path / "cars_test_annos_withlabels.mat",
        "fname",
        [("00001.jpg", 3), ("00002.jpg", 150)],
    )
    scipy_io.savemat(devkit / "cars_meta.mat", {"class_names": NAMES})
    dataset = open_dataset(f"cars:{tmp_path}")
    assert dataset.train.ids == ("cars_test/00001.jpg",)
    assert dataset.test.ids == ("cars_test/00002.jpg", "cars_train/00001.jpg")
    assert dataset.test.labels.tolist() == [0, 0]


def test_cars_names_what_is_missing_or_damaged(tmp_path: Path, put_image: PutImage) -> None:
    with pytest.raises(DataError, match=r"cars_train_annos\.mat is missing; expected cars_annos"):
        open_dataset(f"cars:{tmp_path}")
    whole = tmp_path / "cars_annos.mat"
    whole.write_bytes(b"MATLAB 5.0 MAT-file" + bytes(40))
    with pytest.raises(DataError, match=r"cars_annos\.mat: not a MATLAB file"):
        open_dataset(f"cars:{tmp_path}")
    scipy_io.savemat(whole, {"other": 1})
    with pytest.raises(DataError, match="expected annotations with relative_im_path and class"):
        open_dataset(f"cars:{tmp_path}")
    put_image("car_ims/1.jpg")
    rows = [("car_ims/1.jpg", 197)]
    save_annotations(whole, "relative_im_path", rows)
    with pytest.raises(DataError, match="expected the variable class_names"):
        open_dataset(f"cars:{tmp_path}")
    save_annotations(whole, "relative_im_path", rows, class_names=NAMES)
    with pytest.raises(DataError, match="class 197, but 196 classes have names"):
        open_dataset(f"cars:{tmp_path}")


def put_devkit(root: Path, put_image: PutImage, images: str, kit: str) -> None:
    """Write two images of each half and their tables, as the devkit's layout has them."""
    for half, labels in (("train", (1, 150)), ("test", (2, 151))):
        for number in (1, 2):
            put_image(f"{root.name}/{images.format(half)}/{number:05d}.jpg")
        name = "cars_train_annos.mat" if half == "train" else "cars_test_annos_withlabels.mat"
        rows = [(f"{number:05d}.jpg", c) for number, c in zip((1, 2), labels, strict=True)]
        save_annotations(root / kit / name, "fname", rows)
    scipy_io.savemat(root / kit / "cars_meta.mat", {"class_names": NAMES})


@pytest.mark.parametrize(
    ("images", "kit"),
    [
        ("cars_{0}", "devkit"),
        ("cars_{0}/cars_{0}", "devkit"),
        ("cars_{0}/cars_{0}", "car_devkit/devkit"),
    ],
)
def test_mirrors_of_the_devkit_layout(
    tmp_path: Path, put_image: PutImage, images: str, kit: str
) -> None:
    put_devkit(tmp_path / "stanford_cars", put_image, images, kit)
    for place in (tmp_path, tmp_path / "stanford_cars"):
        dataset = open_dataset(f"cars:{place}")
        assert dataset.train.ids == (
            f"{images.format('train')}/00001.jpg",
            f"{images.format('test')}/00001.jpg",
        )
        assert len(dataset.test) == 2
        assert dataset.test.image(0).size == (6, 4)


def test_the_tables_of_one_layout_with_the_images_of_the_other(
    tmp_path: Path, put_image: PutImage
) -> None:
    rows = [(f"car_ims/{number:06d}.jpg", 1) for number in range(1, 5)]
    save_annotations(tmp_path / "cars_annos.mat", "relative_im_path", rows, class_names=NAMES)
    for half in ("train", "test"):
        put_image(f"cars_{half}/cars_{half}/00001.jpg")
    with pytest.raises(
        DataError, match=r"lists the images of car_ims/, but the folder has cars_train/"
    ):
        open_dataset(f"cars:{tmp_path}")


def test_test_images_without_labels_have_their_own_error(
    tmp_path: Path, put_image: PutImage
) -> None:
    root = tmp_path / "stanford_cars"
    put_devkit(root, put_image, "cars_{0}", "devkit")
    (root / "devkit/cars_test_annos_withlabels.mat").rename(root / "devkit/cars_test_annos.mat")
    with pytest.raises(DataError, match=r"cars_test_annos\.mat does not contain the classes"):
        open_dataset(f"cars:{tmp_path}")
