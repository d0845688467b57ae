from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from gsp_deploy.data import Dataset, ImageFiles, LabelledImages
from gsp_deploy.errors import DataError, UsageError


def images_of(labels: list[int], names: tuple[str, ...] = ("a", "b", "c")) -> LabelledImages:
    ids = tuple(f"{names[label]}/{i}.png" for i, label in enumerate(labels))
    source = ImageFiles(Path("/nowhere"), ids)
    return LabelledImages(source, np.arange(len(ids)), ids, np.array(labels), names)


def test_labels_and_positions_are_int64_and_cannot_be_written() -> None:
    images = images_of([0, 1, 2])
    assert images.labels.dtype == images.positions.dtype == np.int64
    with pytest.raises(ValueError, match="read-only"):
        images.labels[0] = 2
    with pytest.raises(dataclasses.FrozenInstanceError):
        images.ids = ()  # type: ignore[misc]


def test_the_given_arrays_are_copied() -> None:
    labels = np.array([0, 1])
    source = ImageFiles(Path(), ("a", "b"))
    images = LabelledImages(source, np.arange(2), ("a", "b"), labels, ("x", "y"))
    labels[0] = 1
    assert images.labels.tolist() == [0, 1]


@pytest.mark.parametrize(
    ("ids", "labels", "message"),
    [
        (("a", "b"), [0], "one position, id and label per image"),
        (("a", "b"), [0, 2], "labels from 0 to 1"),
        (("a", "b"), [-1, 0], "labels from 0 to 1"),
        (("a", "a"), [0, 1], "the image a is listed twice"),
    ],
)
def test_what_does_not_fit_together_is_refused(
    ids: tuple[str, ...], labels: list[int], message: str
) -> None:
    with pytest.raises(DataError, match=message):
        LabelledImages(ImageFiles(Path(), ids), np.arange(2), ids, np.array(labels), ("x", "y"))


def test_a_subset_keeps_class_names_and_the_given_order() -> None:
    subset = images_of([0, 1, 2, 1]).subset([3, 0])
    assert subset.ids == ("b/3.png", "a/0.png")
    assert subset.labels.tolist() == [1, 0]
    assert subset.class_names == ("a", "b", "c")
    assert [subset.class_name(i) for i in range(2)] == ["b", "a"]


def test_of_classes_renumbers_in_the_order_asked_for() -> None:
    chosen = images_of([0, 1, 2, 1, 0]).of_classes([2, 0])
    assert chosen.class_names == ("c", "a")
    assert chosen.ids == ("a/0.png", "c/2.png", "a/4.png")
    assert chosen.labels.tolist() == [1, 0, 1]


def test_subsets_of_subsets_still_find_their_pixels(tmp_path: Path) -> None:
    for value in range(4):
        Image.new("RGB", (2, 2), (value, 0, 0)).save(tmp_path / f"{value}.png")
    paths = tuple(f"{value}.png" for value in range(4))
    images = LabelledImages(
        ImageFiles(tmp_path, paths), np.arange(4), paths, np.array([0, 1, 0, 1]), ("a", "b")
    )
    twice = images.of_classes([1]).subset([1])
    assert twice.ids == ("3.png",)
    assert twice.image(0).getpixel((0, 0)) == (3, 0, 0)


def test_a_corrupt_file_is_named_when_it_is_read_and_not_before(tmp_path: Path) -> None:
    (tmp_path / "broken.png").write_bytes(b"not a picture")
    source = ImageFiles(tmp_path, ("broken.png",))
    images = LabelledImages(source, np.arange(1), ("broken.png",), np.array([0]), ("a",))
    with pytest.raises(DataError, match=r"broken\.png"):
        images.image(0)


def test_files_have_no_masks() -> None:
    images = images_of([0])
    assert not images.has_masks
    with pytest.raises(UsageError, match="without object masks"):
        images.object_mask(0)


def test_the_fingerprint_depends_on_ids_labels_and_names_but_not_places() -> None:
    base = images_of([0, 1, 2])
    moved = dataclasses.replace(base, source=ImageFiles(Path("/elsewhere"), base.ids))
    assert moved.fingerprint() == base.fingerprint()
    others = [
        images_of([0, 2, 2]),
        images_of([0, 1, 2], ("a", "b", "d")),
        base.subset([2, 1, 0]),
        base.subset([0, 1]),
        dataclasses.replace(base, labels=np.array([0, 0, 2])),
    ]
    prints = {each.fingerprint() for each in [base, *others]}
    assert len(prints) == 6
    assert all(len(each) == 64 for each in prints)


def test_parts_by_name() -> None:
    images = images_of([0, 1])
    plain = Dataset("pets", images, images)
    assert list(plain.parts) == ["train", "test"]
    with pytest.raises(UsageError, match="pets has the parts train, test, not 'gallery'"):
        plain.part("gallery")
    searched = Dataset("shop", images, images, images.subset([0]), images.subset([1]))
    assert searched.part("query").ids == ("a/0.png",)
    with pytest.raises(DataError, match="expected both a query and a gallery part"):
        Dataset("half", images, images, query=images)
