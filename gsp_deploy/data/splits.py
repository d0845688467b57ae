"""Split a data set by whole classes for validation, so that no class is on both sides."""

from __future__ import annotations

import numpy as np

from gsp_deploy.data.images import LabelledImages
from gsp_deploy.errors import UsageError


def validation_split(
    images: LabelledImages, fraction_of_classes: float, seed: int
) -> tuple[LabelledImages, LabelledImages]:
    """Split the training part into `(training, validation)` by whole classes drawn from `seed`.

    Each side keeps the order of the classes and numbers its labels from 0. Each side has at least
    one class.

    Raises:
        UsageError: the fraction is not between 0 and 1, or there are fewer than two classes.
    """
    if not 0 < fraction_of_classes < 1:
        raise UsageError(
            f"the share of validation classes must be between 0 and 1, got {fraction_of_classes}"
        )
    count = images.num_classes
    if count < 2:
        raise UsageError(f"a split by class needs at least two classes, got {count}")
    held_out = min(max(1, round(fraction_of_classes * count)), count - 1)
    order = np.random.default_rng(seed).permutation(count)
    validation, training = np.sort(order[:held_out]), np.sort(order[held_out:])
    return images.of_classes(training), images.of_classes(validation)


def cross_validation_folds(
    images: LabelledImages, folds: int = 4
) -> tuple[tuple[LabelledImages, LabelledImages], ...]:
    """Return `folds` pairs of `(training, validation)`; each class validates in exactly one pair.

    This is the protocol of "A Metric Learning Reality Check" (Musgrave et al., ECCV 2020): the
    training classes, in order, are cut into contiguous ranges, and each range validates once.

    Raises:
        UsageError: fewer than two folds, or fewer classes than folds.
    """
    if not 2 <= folds <= images.num_classes:
        raise UsageError(
            f"expected 2 to {images.num_classes} folds, at most one per class, got {folds}"
        )
    classes = np.arange(images.num_classes)
    return tuple(
        (images.of_classes(np.setdiff1d(classes, held_out)), images.of_classes(held_out))
        for held_out in np.array_split(classes, folds)
    )
