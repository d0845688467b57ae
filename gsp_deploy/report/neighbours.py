"""Compare the nearest neighbours of images under two models."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from gsp_deploy.images.data_uri import data_uri
from gsp_deploy.images.files import (
    ImageBatch,
    class_labels,
    evenly_spaced,
    name_with_folder,
)
from gsp_deploy.metrics import neighbours, unit_rows

STRIPS, NEIGHBOURS = 6, 6
THUMBNAIL = 72  # pixels


@dataclass(frozen=True)
class Tile:
    """One image of a strip: its data URI, its file's name, and whether its class is the query's.

    `same_class` is None if the images have no classes.
    """

    uri: str
    name: str
    same_class: bool | None


@dataclass(frozen=True)
class Strip:
    """A query and its nearest images by the reference and by the candidate, the nearest first."""

    query: Tile
    before: tuple[Tile, ...]
    after: tuple[Tile, ...]

    @property
    def changed(self) -> bool:
        """Whether the two orders differ."""
        return [tile.name for tile in self.before] != [tile.name for tile in self.after]


def compare_neighbours(
    before: np.ndarray, after: np.ndarray, batch: ImageBatch
) -> tuple[tuple[Strip, ...], int]:
    """Return some images with their neighbours, changed ones first, and how many changed in all.

    Args:
        before, after: embeddings `(n, D)` of the batch by the reference and by the candidate.
        batch: the images.
    """
    orders = _nearest(before), _nearest(after)
    differs = (orders[0] != orders[1]).any(axis=1)
    tiles = _Tiles(batch)
    strips = (tiles.strip(query, *(order[query] for order in orders)) for query in _chosen(differs))
    return tuple(strips), int(differs.sum())


def _nearest(embeddings: np.ndarray) -> np.ndarray:
    """Return each image's nearest other images by cosine, indices `(n, k)`."""
    count = min(NEIGHBOURS, len(embeddings) - 1)
    return neighbours(unit_rows(embeddings), k=count)[1]


def _chosen(differs: np.ndarray) -> list[int]:
    """Choose up to `STRIPS` images: changed ones first, then evenly spaced unchanged ones."""
    changed, same = np.flatnonzero(differs)[:STRIPS], np.flatnonzero(~differs)
    return [*changed.tolist(), *evenly_spaced(same.tolist(), STRIPS - len(changed))]


class _Tiles:
    """Makes tiles from a batch's images."""

    def __init__(self, batch: ImageBatch) -> None:
        self._batch = batch
        self._labels = class_labels(batch.files)

    def strip(self, query: int, before: Sequence[int], after: Sequence[int]) -> Strip:
        return Strip(
            self._tile(query, None),
            tuple(self._tile(index, query) for index in before),
            tuple(self._tile(index, query) for index in after),
        )

    def _tile(self, index: int, query: int | None) -> Tile:
        same = None
        if query is not None and self._labels is not None:
            same = bool(self._labels[index] == self._labels[query])
        picture = Image.fromarray(self._batch.images[index])
        picture.thumbnail((THUMBNAIL, THUMBNAIL))
        return Tile(data_uri(picture), name_with_folder(self._batch.files[index]), same)
