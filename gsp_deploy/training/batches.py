"""Make training batches, each a function of its step, and prepare them ahead in workers."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from gsp_deploy.config import PreprocessingSpec
from gsp_deploy.data.images import LabelledImages
from gsp_deploy.errors import DataError, UsageError
from gsp_deploy.images.preprocessing import fit_image
from gsp_deploy.training.augmentation import augment
from gsp_deploy.training.distributed import World
from gsp_deploy.training.random_streams import Stream, generator
from gsp_deploy.training.sections import AugmentationSection, SamplerSection


class Batch(NamedTuple):
    """Images uint8 `(B, H, W, 3)` and class indices int64 `(B,)`."""

    images: Tensor
    labels: Tensor


@dataclass(frozen=True)
class BatchSampler:
    """Choose the images of each step's batch; a step always gets the same images.

    Images of one class are next to each other in a batch. The zero-shot loss predicts one half of
    the batch from the other, and this order leaves at most one class in both halves.

    Args:
        labels: int64 `(n,)`.
        settings: batch size and images per class.
        seed: seed of every random choice.

    Raises:
        UsageError: there are fewer classes or images than a batch needs.
    """

    labels: np.ndarray
    settings: SamplerSection
    seed: int
    _members: list[np.ndarray] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        members = [np.flatnonzero(self.labels == label) for label in np.unique(self.labels)]
        object.__setattr__(self, "_members", members)
        size, per_class = self.settings.batch_size, self.settings.images_per_class
        needed, there = (size // per_class, len(members)) if per_class else (size, len(self.labels))
        if there < needed:
            raise UsageError(
                f"a batch needs {needed} {'classes' if per_class else 'images'}, but the training "
                f"part has {there}; lower sampler.batch_size"
            )

    @property
    def steps_per_epoch(self) -> int:
        """Return how many whole batches the training images fill, at least 1."""
        return max(1, len(self.labels) // self.settings.batch_size)

    @property
    def classes_in_batch(self) -> int | None:
        """Return the number of classes of each batch; None if batches are of shuffled images."""
        per_class = self.settings.images_per_class
        return self.settings.batch_size // per_class if per_class else None

    def indices(self, step: int) -> np.ndarray:
        """Return the image indices of one step's batch, int64 `(batch_size,)`."""
        if self.settings.images_per_class:
            return self._by_class(step)
        epoch, place = divmod(step, self.steps_per_epoch)
        order = generator(self.seed, Stream.BATCHES, epoch).permutation(len(self.labels))
        size = self.settings.batch_size
        chosen = order[place * size : (place + 1) * size]
        return chosen[np.argsort(self.labels[chosen], kind="stable")]

    def _by_class(self, step: int) -> np.ndarray:
        rng = generator(self.seed, Stream.BATCHES, step)
        per_class = self.settings.images_per_class
        classes = rng.permutation(len(self._members))[: self.settings.batch_size // per_class]
        draws = [
            rng.choice(self._members[c], per_class, replace=len(self._members[c]) < per_class)
            for c in classes
        ]
        return np.concatenate(draws)


@dataclass(frozen=True)
class TrainingBatches(Dataset[Any]):
    """The augmented batch of each step, or this process's share if several processes train."""

    images: LabelledImages
    sampler: BatchSampler
    augmentation: AugmentationSection
    spec: PreprocessingSpec
    world: World

    def __getitem__(self, step: int) -> Batch:
        indices = self.sampler.indices(step)
        mine = range(len(indices))[self.world.share_of(len(indices))]
        pixels = [self._pixels(step, place, int(indices[place])) for place in mine]
        labels = self.images.labels[indices[mine.start : mine.stop]]
        return Batch(torch.from_numpy(np.stack(pixels)), torch.from_numpy(labels.copy()))

    def _pixels(self, step: int, place: int, index: int) -> np.ndarray:
        rng = generator(self.sampler.seed, Stream.AUGMENTATION, step, place)
        return augment(self.images.image(index), self.augmentation, self.spec, rng)


@dataclass(frozen=True)
class PlainBatches(Dataset[Any]):
    """All images in order, with the pre-processing of the deployed model."""

    images: LabelledImages
    spec: PreprocessingSpec
    batch_size: int

    def __len__(self) -> int:
        return -(-len(self.images) // self.batch_size)

    def __getitem__(self, number: int) -> Batch:
        start = number * self.batch_size
        places = range(start, min(start + self.batch_size, len(self.images)))
        pixels = np.stack([fit_image(self.images.image(i), self.spec) for i in places])
        labels = self.images.labels[start : places.stop]
        return Batch(torch.from_numpy(pixels), torch.from_numpy(labels.copy()))


def load(batches: TrainingBatches | PlainBatches, numbers: range, workers: int) -> Iterator[Batch]:
    """Yield the batches with these numbers in order; `workers` processes prepare them ahead.

    Raises:
        DataError: an image cannot be read.
    """
    loader = DataLoader(
        _Guarded(batches),
        batch_size=None,
        sampler=numbers,
        num_workers=workers,
        collate_fn=_as_it_is,  # type: ignore[arg-type]
        worker_init_fn=_leave_signals_to_the_parent,
    )
    for item in loader:
        if isinstance(item, DataError):
            raise item
        yield item


@dataclass(frozen=True)
class _Guarded(Dataset[Any]):
    """Returns a data error as a value, because an error raised in a worker prints a traceback."""

    batches: TrainingBatches | PlainBatches

    def __getitem__(self, number: int) -> Batch | DataError:
        try:
            return self.batches[number]
        except DataError as error:
            return error


def _as_it_is(item: Batch | DataError) -> Batch | DataError:
    return item


def _leave_signals_to_the_parent(worker: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
