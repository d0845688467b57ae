from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gsp_deploy.data import ImageFiles, LabelledImages, cross_validation_folds, validation_split
from gsp_deploy.errors import UsageError


def images_of_classes(count: int, each: int = 2) -> LabelledImages:
    ids = tuple(f"{c:03d}/{k}.png" for c in range(count) for k in range(each))
    labels = np.repeat(np.arange(count), each)
    names = tuple(f"{c:03d}" for c in range(count))
    return LabelledImages(ImageFiles(Path(), ids), np.arange(len(ids)), ids, labels, names)


def names_agree(images: LabelledImages) -> bool:
    return all(images.class_name(i) == images.ids[i].split("/")[0] for i in range(len(images)))


@given(
    st.integers(2, 40), st.floats(0, 1, exclude_min=True, exclude_max=True), st.integers(0, 2**32)
)
def test_a_validation_split_shares_no_class_and_loses_no_image(
    count: int, fraction: float, seed: int
) -> None:
    images = images_of_classes(count)
    training, validation = validation_split(images, fraction, seed)
    assert not set(training.class_names) & set(validation.class_names)
    assert set(training.class_names) | set(validation.class_names) == set(images.class_names)
    assert sorted(training.ids + validation.ids) == sorted(images.ids)
    assert min(training.num_classes, validation.num_classes) >= 1
    assert abs(validation.num_classes - fraction * count) <= 1
    assert names_agree(training)
    assert names_agree(validation)


def test_a_validation_split_follows_its_seed() -> None:
    images = images_of_classes(30)
    first = validation_split(images, 0.2, 7)[1].class_names
    assert validation_split(images, 0.2, 7)[1].class_names == first
    assert validation_split(images, 0.2, 8)[1].class_names != first
    assert list(first) == sorted(first)


@pytest.mark.parametrize("fraction", [0, 1, -0.5, float("nan")])
def test_a_share_outside_its_range_is_refused(fraction: float) -> None:
    with pytest.raises(UsageError, match="between 0 and 1"):
        validation_split(images_of_classes(4), fraction, 0)


def test_one_class_cannot_be_split() -> None:
    with pytest.raises(UsageError, match="at least two classes, got 1"):
        validation_split(images_of_classes(1), 0.5, 0)


def test_folds_are_contiguous_ranges_of_classes_that_validate_once_each() -> None:
    images = images_of_classes(10)
    folds = cross_validation_folds(images)
    held_out = [validation.class_names for _, validation in folds]
    assert [len(names) for names in held_out] == [3, 3, 2, 2]
    assert sum(held_out, ()) == images.class_names
    for training, validation in folds:
        assert not set(training.class_names) & set(validation.class_names)
        assert len(training) + len(validation) == len(images)
        assert names_agree(training)
        assert names_agree(validation)


@pytest.mark.parametrize("folds", [1, 5])
def test_a_number_of_folds_that_cannot_be_is_refused(folds: int) -> None:
    with pytest.raises(UsageError, match="2 to 4 folds"):
        cross_validation_folds(images_of_classes(4), folds)
