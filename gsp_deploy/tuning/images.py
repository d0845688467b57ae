"""The images that tuning needs: some of the test part to score on, others to calibrate int8 on."""

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

# With fewer classes than this retrieval is too easy to show a loss.
FEWEST_CLASSES = 10


def parts_for_tuning(dataset: Dataset, *, calibrates: bool) -> Dataset:
    """Return the data set with the parts that tuning uses, where the data name none.

    Where a folder of its own calibrates int8 (`calibrates` is false), every image is scored.
    Otherwise what the model is scored on must not calibrate it: one half of the classes each.
    """
    if not dataset.halved or not calibrates:
        return dataset.for_evaluation()
    note = (
        "no train and test parts are named: the first half of the classes calibrates int8, the "
        "other half is scored; --calibrate FOLDER scores all"
    )
    return replace(dataset, halved=False, notes=(*dataset.notes, note))


def scoring_images(dataset: Dataset, limit: int) -> Dataset:
    """Return the data set with about `limit` test images, those of evenly spaced classes.

    Raises:
        UsageError: there are no test images, or no class has two.
    """
    test = dataset.test
    if not len(test) or np.bincount(test.labels).max() < 2:
        raise UsageError(
            f"{dataset.name} has no test class with two images; tuning needs some to find"
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
        note += "; so few are easily told apart, do not choose by them: raise --images"
    return replace(
        dataset,
        test=scored,
        query=None if dataset.query is None else of_kept(dataset.query),
        gallery=None if dataset.gallery is None else of_kept(dataset.gallery),
        notes=(*dataset.notes, note),
    )


class CalibrationImages:
    """Where int8 finds its ranges: a folder, or the training part. Read once for each size.

    Args:
        dataset: its training part serves where there is no folder.
        folder: of images.
    """

    def __init__(self, dataset: Dataset, folder: Path | None) -> None:
        self._part, self._name, self._folder = dataset.train, dataset.name, folder
        self._spec: PreprocessingSpec | None = None
        self._images: QuantisationImages | None = None

    @property
    def are_there(self) -> bool:
        """Whether there is anything to calibrate on."""
        return self._folder is not None or len(self._part) > 0

    def fingerprint(self) -> str:
        """Return what tells one source of images from another, without reading them."""
        return self._part.fingerprint() if self._folder is None else str(self._folder.resolve())

    def at(self, spec: PreprocessingSpec) -> QuantisationImages:
        """Return the images prepared for a model; the last ones are kept."""
        if self._images is None or spec != self._spec:
            self._spec = spec
            self._images = (
                quantisation_images_of(self._part, spec, f"{self._name}'s training part")
                if self._folder is None
                else quantisation_images(self._folder, spec)
            )
        return self._images
