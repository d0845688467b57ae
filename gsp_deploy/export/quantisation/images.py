"""Read the images that quantisation calibrates on and judges retrieval with."""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from gsp_deploy.base.cores import available_cores
from gsp_deploy.config import PreprocessingSpec
from gsp_deploy.data import LabelledImages, open_dataset
from gsp_deploy.errors import UsageError
from gsp_deploy.export.calibration import Calibration
from gsp_deploy.images.files import class_labels, evenly_spaced, find_images, read_images
from gsp_deploy.images.preprocessing import fit_image

# After the first few hundred images the ranges hardly change.
MOST_CALIBRATION_IMAGES = 512
FEWEST_CALIBRATION_IMAGES = 100
MOST_VALIDATION_IMAGES = 1000


@dataclass(frozen=True)
class QuantisationImages:
    """Images to measure activations on, and images to judge every attempt by.

    Attributes:
        calibration: the activations of these images give the ranges.
        validation: each of these images is searched for among the others.
        labels: the validation images' classes, int64 `(n,)`, or None if they have none.
        notes: remarks for the reader of the result.
    """

    calibration: Calibration
    validation: Calibration
    labels: np.ndarray | None = None
    notes: tuple[str, ...] = ()


def quantisation_images(
    folder: str | os.PathLike[str], spec: PreprocessingSpec, validate: str | None = None
) -> QuantisationImages:
    """Read the calibration images below a folder, and the validation images.

    Args:
        folder: contains the calibration images: up to 512 are taken, evenly spaced.
        spec: the model's pre-processing.
        validate: a folder of images (one folder per class gives labels), or the specification of
            a data set (its test part is taken); None means `folder` again. Up to 1,000 images are
            used, in whole classes if possible.

    Raises:
        DataError, UsageError: there are no such images.
    """
    notes: list[str] = []
    files = find_images([folder], notes.append)
    calibration, _ = _read_files(
        evenly_spaced(files, MOST_CALIBRATION_IMAGES), spec, Path(folder).name, notes
    )
    _note_too_few(calibration, notes)
    if validate is not None and not Path(validate).is_dir():
        validation, labels = _read_part(
            open_dataset(validate).for_evaluation().test, spec, validate
        )
    else:
        found = files if validate is None else find_images([validate], notes.append)
        chosen = [found[i] for i in _whole_classes(class_labels(found), len(found))]
        name = Path(folder if validate is None else validate).name
        validation, labels = _read_files(chosen, spec, name, notes)
    return QuantisationImages(calibration, validation, labels, tuple(dict.fromkeys(notes)))


def quantisation_images_of(
    part: LabelledImages, spec: PreprocessingSpec, name: str
) -> QuantisationImages:
    """Take both from one part of a data set; never report results on that same part.

    Args:
        part: up to 512 of its images calibrate, and up to 1,000 judge.
        spec: the model's pre-processing.
        name: what to call it.
    """
    notes: list[str] = []
    inputs = _fitted(part.subset(evenly_spaced(range(len(part)), MOST_CALIBRATION_IMAGES)), spec)
    calibration = Calibration(inputs, f"{len(inputs)} images of {name}", spec)
    _note_too_few(calibration, notes)
    validation, labels = _read_part(part, spec, name)
    return QuantisationImages(calibration, validation, labels, tuple(notes))


def _read_files(
    files: Sequence[Path], spec: PreprocessingSpec, name: str, notes: list[str]
) -> tuple[Calibration, np.ndarray | None]:
    """Return the readable images, and their classes if the folders name them."""
    found, failures = read_images(files, spec)
    notes += [f"left out: {failure.reason}" for failure in failures]
    calibration = Calibration(found.images, f"{len(found)} images of {name}", spec)
    return calibration, class_labels(found.files)


def _read_part(
    part: LabelledImages, spec: PreprocessingSpec, name: str
) -> tuple[Calibration, np.ndarray | None]:
    chosen = part.subset(_whole_classes(part.labels, len(part)))
    if not len(chosen):
        raise UsageError(f"{name} has no test images; --validate needs some to search among")
    images = _fitted(chosen, spec)
    return Calibration(images, f"{len(images)} images of {name}", spec), chosen.labels


def _fitted(part: LabelledImages, spec: PreprocessingSpec) -> np.ndarray:
    """Return all images of a part at the model's size, uint8 `(n, H, W, 3)`."""
    with ThreadPoolExecutor(available_cores()) as pool:
        return np.stack(list(pool.map(lambda i: fit_image(part.image(i), spec), range(len(part)))))


def _note_too_few(calibration: Calibration, notes: list[str]) -> None:
    if len(calibration.inputs) < FEWEST_CALIBRATION_IMAGES:
        notes.append(
            f"{len(calibration.inputs)} calibration images: fewer than "
            f"{FEWEST_CALIBRATION_IMAGES} may miss large activations"
        )


def _whole_classes(labels: np.ndarray | None, count: int) -> list[int]:
    """Return up to 1,000 indices: where there are more images, those of evenly spaced classes."""
    everything = range(count)
    if labels is None or count <= MOST_VALIDATION_IMAGES:
        return evenly_spaced(everything, MOST_VALIDATION_IMAGES)
    classes = np.unique(labels)
    wanted = max(2, len(classes) * MOST_VALIDATION_IMAGES // count)
    kept = set(evenly_spaced(classes.tolist(), wanted))
    chosen = [index for index in everything if labels[index] in kept]
    return evenly_spaced(chosen, MOST_VALIDATION_IMAGES)
