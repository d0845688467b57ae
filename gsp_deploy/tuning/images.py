"""Select the images for tuning: some of the test part to score, others to calibrate int8."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from gsp_deploy.config import PreprocessingSpec
from gsp_deploy.data import Dataset, LabelledImages
from gsp_deploy.errors import UsageError
from gsp_deploy.export.quantisation import (
    QuantisationImages,
    quantisation_images,
    quantisation_images_of,
)

# With fewer classes than this, retrieval is so easy that a loss does not show.
FEWEST_CLASSES = 10


def parts_for_tuning(dataset: Dataset, *, calibrates: bool) -> Dataset:
    """Return the data set with train and test parts for tuning, if the data name no parts.

    If another folder calibrates int8 (`calibrates` is false), every image is scored. Otherwise half
    of the classes calibrate int8 and the other half is scored, because the model must not be
    calibrated on the images that score it.
    """
    if not dataset.halved or not calibrates:
        return dataset.for_evaluation()
    note = (
        "the data set has no train and test parts: the first half of the classes calibrates int8, "
        "the other half is scored; pass --calibrate FOLDER to score all"
    )
    return replace(dataset, halved=False, notes=(*dataset.notes, note))


def scoring_images(dataset: Dataset, limit: int) -> Dataset:
    """Return the data set with about `limit` test images, from evenly spaced classes.

    Raises:
        UsageError: there are no test images, or no class has two images.
    """
    test = dataset.test
    if not len(test) or np.bincount(test.labels).max() < 2:
        raise UsageError(
            f"{dataset.name} has no test class with two images, so a search cannot find one of the "
            "same class; add images"
        )
    if len(test) <= limit:
        return dataset
    classes = np.unique(test.labels)
    wanted = min(len(classes), max(2, len(classes) * limit // len(test)))
    kept = classes[np.linspace(0, len(classes) - 1, wanted).round().astype(int)]

    def of_kept(part: LabelledImages) -> LabelledImages:
        return part.subset(np.flatnonzero(np.isin(part.labels, kept)))

    scored = of_kept(test)
    note = (
        f"scored on {len(scored):,} of {len(test):,} test images, "
        f"those of {wanted} of {len(classes)} classes"
    )
    if wanted < FEWEST_CLASSES:
        note += "; retrieval is too easy with so few classes, do not choose by it: raise --images"
    return replace(
        dataset,
        test=scored,
        query=None if dataset.query is None else of_kept(dataset.query),
        gallery=None if dataset.gallery is None else of_kept(dataset.gallery),
        notes=(*dataset.notes, note),
    )


class CalibrationImages:
    """The images that calibrate int8: a folder, or the training part. Read once for each size.

    Args:
        dataset: its training part calibrates int8 if `folder` is None.
        folder: a folder of images.
    """

    def __init__(self, dataset: Dataset, folder: Path | None) -> None:
        self._part, self._name, self._folder = dataset.train, dataset.name, folder
        self._spec: PreprocessingSpec | None = None
        self._images: QuantisationImages | None = None

    @property
    def are_there(self) -> bool:
        """Whether there are any images to calibrate on."""
        return self._folder is not None or len(self._part) > 0

    def fingerprint(self) -> str:
        """Return an identifier of the source of the images, without reading them."""
        return self._part.fingerprint() if self._folder is None else str(self._folder.resolve())

    def at(self, spec: PreprocessingSpec) -> QuantisationImages:
        """Return the images prepared for a model; the last ones are cached."""
        if self._images is None or spec != self._spec:
            self._spec = spec
            self._images = (
                quantisation_images_of(self._part, spec, f"{self._name}'s training part")
                if self._folder is None
                else quantisation_images(self._folder, spec)
            )
        return self._images
