"""What a data set is: labelled images in named parts, wherever their pixels come from."""

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
    """Where pixels come from: files on disk, or a generator that needs no disk."""

    @property
    def parameters(self) -> Mapping[str, str | int | float]:
        """What determines the pixels besides the position; part of the fingerprint."""

    def image(self, position: int) -> Image.Image:
        """Return one image as 8-bit RGB; the same position gives the same pixels every time."""


@runtime_checkable
class MaskedImageSource(ImageSource, Protocol):
    """A source that also knows where the object is."""

    def object_mask(self, position: int) -> np.ndarray:
        """Return bool `(height, width)`, true on the object's pixels."""


@dataclass(frozen=True)
class ImageFiles:
    """Images that lie below a folder; `paths` are relative to `root`, or absolute."""

    root: Path
    paths: tuple[str, ...]

    @property
    def parameters(self) -> Mapping[str, str | int | float]:
        """Return the kind alone: where the folder lies does not change what is in it."""
        return {"kind": "files"}

    def image(self, position: int) -> Image.Image:
        """Decode a file to upright RGB; `DataError` names it when it cannot be read."""
        return decode_image(self.root / self.paths[position])


@dataclass(frozen=True, eq=False)
class LabelledImages:
    """Images with one class each. Immutable; a subset is a new one over the same source.

    Args:
        source: where the pixels come from.
        positions: int64 `(n,)`, the place of each image in the source.
        ids: n names, unique: the path below the data set's root, or a generated one of that form.
        labels: int64 `(n,)`, indices into `class_names`.
        class_names: one name a class; a class may have no image in a subset.

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
            raise DataError(f"expected a position, an id and a label an image, got {lengths}")
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
        """Number of class names."""
        return len(self.class_names)

    def image(self, index: int) -> Image.Image:
        """Return one image as 8-bit RGB. Raises `DataError` when its file cannot be read."""
        return self.source.image(int(self.positions[index]))

    def class_name(self, index: int) -> str:
        """Return the name of the class that image `index` has."""
        return self.class_names[self.labels[index]]

    @property
    def has_masks(self) -> bool:
        """Whether `object_mask` can be asked for."""
        return isinstance(self.source, MaskedImageSource)

    def object_mask(self, index: int) -> np.ndarray:
        """Return where the object is, bool `(height, width)`; only generated images know it."""
        if not isinstance(self.source, MaskedImageSource):
            raise UsageError("these images are files without object masks; use a built-in data set")
        return self.source.object_mask(int(self.positions[index]))

    def subset(self, indices: Sequence[int] | np.ndarray) -> LabelledImages:
        """Return the chosen images in the given order, with labels and class names as they are."""
        chosen = np.asarray(indices, dtype=np.int64)
        return LabelledImages(
            self.source,
            self.positions[chosen],
            tuple(self.ids[i] for i in chosen),
            self.labels[chosen],
            self.class_names,
        )

    def of_classes(self, classes: Sequence[int] | np.ndarray) -> LabelledImages:
        """Return the images of some classes, relabelled 0, 1, ... in the order of `classes`."""
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

        It is cheap, for manifests: no pixel is read, so it tells two lists of images or two
        settings of a generator apart, but not an edited file from its original.
        """
        digest = hashlib.sha256()
        for item in (dict(self.source.parameters), self.class_names, self.ids):
            digest.update(json.dumps(item, sort_keys=True).encode())
        digest.update(self.labels.astype("<i8").tobytes())
        return digest.hexdigest()


@dataclass(frozen=True, eq=False)
class Dataset:
    """A data set with the parts that its protocol knows.

    `train` is what a model may learn from; it is empty where the data is for evaluation only.
    `test` is what it is judged on. Where the protocol searches a gallery with separate queries
    (In-Shop), `query` and `gallery` are there too, with the class names in common, and `test` is
    both together; otherwise each test image is a query against all the others.

    Args:
        recall_ranks: the K of R@K that the literature reports on this data set.
        halved: the data name no parts, so that by convention half of the classes trains.
        notes: what a reader of results should know: skipped files, classes with one image.
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
            raise DataError(f"{self.name}: a query part and a gallery part must come together")

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
        """Return the data set as it is where nobody trains: of a halved one, every image tests."""
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
        """Return one part by name. Raises `UsageError` for one that the data set does not have."""
        if name not in self.parts:
            raise UsageError(f"{self.name} has the parts {', '.join(self.parts)}, not {name!r}")
        return self.parts[name]


def first_repeated(names: Iterable[str]) -> str | None:
    """Return the first name that came before, or None when all are different."""
    seen: set[str] = set()
    for name in names:
        if name in seen:
            return name
        seen.add(name)
    return None
