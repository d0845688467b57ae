"""Data sets: labelled images in named parts, from files or from a generator."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
from PIL import Image

from gsp_deploy.errors import DataError, UsageError
from gsp_deploy.images.preprocessing import decode_image

STANDARD_RANKS = (1, 2, 4, 8)


class ImageSource(Protocol):
    """A source of pixels: files on disk, or a generator that needs no disk."""

    @property
    def parameters(self) -> Mapping[str, str | int | float]:
        """Everything that determines the pixels besides the position; part of the fingerprint."""

    def image(self, position: int) -> Image.Image:
        """Return one image as 8-bit RGB; the same position gives the same pixels every time."""


@runtime_checkable
class MaskedImageSource(ImageSource, Protocol):
    """A source that also has a mask of the object in each image."""

    def object_mask(self, position: int) -> np.ndarray:
        """Return bool `(height, width)`, true on the object's pixels."""


@dataclass(frozen=True)
class ImageFiles:
    """Image files below a folder; `paths` are relative to `root`, or absolute."""

    root: Path
    paths: tuple[str, ...]

    @property
    def parameters(self) -> Mapping[str, str | int | float]:
        """Return only the kind, because moving the folder does not change its images."""
        return {"kind": "files"}

    def image(self, position: int) -> Image.Image:
        """Decode a file to upright RGB; raise a `DataError` that names it if that fails."""
        return decode_image(self.root / self.paths[position])


@dataclass(frozen=True, eq=False)
class LabelledImages:
    """Images with one class each. Immutable; a subset is a new object with the same source.

    Args:
        source: source of the pixels.
        positions: int64 `(n,)`, the position of each image in the source.
        ids: n unique names: paths below the data set's root, or generated names in that form.
        labels: int64 `(n,)`, indices into `class_names`.
        class_names: one name per class; a subset may have no image of a class.

    Raises:
        DataError: the lengths differ, a label has no name, or an id occurs twice.
    """

    source: ImageSource
    positions: np.ndarray
    ids: tuple[str, ...]
    labels: np.ndarray
    class_names: tuple[str, ...]

    def __post_init__(self) -> None:
        for name in ("positions", "labels"):
            values = np.array(getattr(self, name), dtype=np.int64)
            values.flags.writeable = False
            object.__setattr__(self, name, values)
        lengths = (len(self.positions), len(self.ids), len(self.labels))
        if len(set(lengths)) != 1:
            raise DataError(f"expected one position, id and label per image, got {lengths}")
        if len(self.labels) and not 0 <= self.labels.min() <= self.labels.max() < self.num_classes:
            raise DataError(
                f"expected labels from 0 to {self.num_classes - 1}, got "
                f"{self.labels.min()} to {self.labels.max()}"
            )
        if repeated := first_repeated(self.ids):
            raise DataError(f"the image {repeated} is listed twice; list it once")

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def num_classes(self) -> int:
        """Number of class names; some may have no image."""
        return len(self.class_names)

    def image(self, index: int) -> Image.Image:
        """Return one image as 8-bit RGB. Raises `DataError` if its file cannot be read."""
        return self.source.image(int(self.positions[index]))

    def class_name(self, index: int) -> str:
        """Return the name of the class of image `index`."""
        return self.class_names[self.labels[index]]

    @property
    def has_masks(self) -> bool:
        """Whether `object_mask` returns masks."""
        return isinstance(self.source, MaskedImageSource)

    def object_mask(self, index: int) -> np.ndarray:
        """Return the object's mask, bool `(height, width)`.

        Raises:
            UsageError: the images are not generated, so they have no masks.
        """
        if not isinstance(self.source, MaskedImageSource):
            raise UsageError("these images are files without object masks; use a built-in data set")
        return self.source.object_mask(int(self.positions[index]))

    def subset(self, indices: Sequence[int] | np.ndarray) -> LabelledImages:
        """Return the chosen images in the given order, with unchanged labels and class names."""
        chosen = np.asarray(indices, dtype=np.int64)
        return LabelledImages(
            self.source,
            self.positions[chosen],
            tuple(self.ids[i] for i in chosen),
            self.labels[chosen],
            self.class_names,
        )

    def of_classes(self, classes: Sequence[int] | np.ndarray) -> LabelledImages:
        """Return the images of some classes, with labels 0, 1, ... in the order of `classes`."""
        wanted = np.asarray(classes, dtype=np.int64)
        relabel = np.full(self.num_classes, -1, dtype=np.int64)
        relabel[wanted] = np.arange(len(wanted))
        kept = np.flatnonzero(relabel[self.labels] >= 0)
        return LabelledImages(
            self.source,
            self.positions[kept],
            tuple(self.ids[i] for i in kept),
            relabel[self.labels[kept]],
            tuple(self.class_names[c] for c in wanted),
        )

    def followed_by(self, other: LabelledImages) -> LabelledImages:
        """Return both parts as one; they must share their source and have no class in common."""
        if self.source is not other.source or set(self.class_names) & set(other.class_names):
            raise DataError("expected two parts of one source without a class in common")
        return LabelledImages(
            self.source,
            np.concatenate([self.positions, other.positions]),
            self.ids + other.ids,
            np.concatenate([self.labels, other.labels + self.num_classes]),
            self.class_names + other.class_names,
        )

    def fingerprint(self) -> str:
        """Return a SHA-256 over ids, labels, class names and the source's parameters.

        It is fast because no pixel is read. Different lists of images, or different settings of a
        generator, have different fingerprints; an edited image file does not change it.
        """
        digest = hashlib.sha256()
        for item in (dict(self.source.parameters), self.class_names, self.ids):
            digest.update(json.dumps(item, sort_keys=True).encode())
        digest.update(self.labels.astype("<i8").tobytes())
        return digest.hexdigest()


@dataclass(frozen=True, eq=False)
class Dataset:
    """A data set with the parts of its protocol.

    `train` is for training; it is empty if the data is only for evaluation. `test` is for
    evaluation. If the protocol searches a gallery with separate queries (In-Shop), `query` and
    `gallery` exist too, with the same class names, and `test` contains both; otherwise each test
    image is a query against all the others.

    Args:
        recall_ranks: the K of R@K that the literature reports on this data set.
        halved: the data names no parts, so by convention half of the classes train.
        notes: notes for a reader of results: skipped files, classes with one image.
    """

    name: str
    train: LabelledImages
    test: LabelledImages
    query: LabelledImages | None = None
    gallery: LabelledImages | None = None
    recall_ranks: tuple[int, ...] = STANDARD_RANKS
    halved: bool = False
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if (self.query is None) != (self.gallery is None):
            raise DataError(f"{self.name}: expected both a query and a gallery part, got only one")

    @property
    def parts(self) -> dict[str, LabelledImages]:
        """Return the parts that exist, by name."""
        named = {
            "train": self.train,
            "test": self.test,
            "query": self.query,
            "gallery": self.gallery,
        }
        return {name: part for name, part in named.items() if part is not None}

    def for_evaluation(self) -> Dataset:
        """Return the data set for evaluation without training; a halved one tests every image."""
        if not self.halved:
            return self
        return dataclasses.replace(
            self,
            train=self.train.subset([]),
            test=self.train.followed_by(self.test),
            halved=False,
            notes=(*self.notes, "no train and test parts are named, so every image is tested"),
        )

    def part(self, name: str) -> LabelledImages:
        """Return one part by name. Raises `UsageError` if the data set has no such part."""
        if name not in self.parts:
            raise UsageError(f"{self.name} has the parts {', '.join(self.parts)}, not {name!r}")
        return self.parts[name]


def first_repeated(names: Iterable[str]) -> str | None:
    """Return the first repeated name, or None if all are different.

    >>> first_repeated(["a", "b", "a"])
    'a'
    """
    seen: set[str] = set()
    for name in names:
        if name in seen:
            return name
        seen.add(name)
    return None
