"""What a report shows of images: neighbours before and after, and what the pooling keeps."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from gsp_deploy.errors import UsageError
from gsp_deploy.explain import PoolingMaps, map_panel, pooling_maps
from gsp_deploy.image_files import ImageBatch, class_labels
from gsp_deploy.metrics import neighbours, unit_rows
from gsp_deploy.report.convergence import Convergence, measure_convergence
from gsp_deploy.runtime import EmbeddingSession

THUMBNAIL = 72
PANEL_TILE = 120
STRIPS, NEIGHBOURS, PANELS = 6, 6, 6


@dataclass(frozen=True)
class Tile:
    """One image of a strip: its data URI, its file's name, and whether its class is the query's.

    `same_class` is None where the images have no classes.
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


@dataclass(frozen=True)
class Pictures:
    """Images of a report.

    Attributes:
        reference, candidate: file names of the two models.
        strips: those whose neighbours changed first.
        changed: how many of `queries` images have another order of their nearest images.
        panels: weight maps, as data URIs.
        convergence: of the solvers on these images; None if the candidate does not tell.
        notes: what could not be shown, and why.
    """

    reference: str
    candidate: str
    strips: tuple[Strip, ...]
    changed: int
    queries: int
    panels: tuple[str, ...]
    convergence: Convergence | None
    notes: tuple[str, ...]


def take_pictures(
    reference: EmbeddingSession, candidate: EmbeddingSession, batch: ImageBatch
) -> Pictures:
    """Compare two models' neighbours on images, and map what the candidate's pooling keeps.

    Args:
        reference, candidate: open models that take the same images.
        batch: at least two images of their size, uint8.

    Raises:
        UsageError: there are fewer than two images, or the models take different ones.
    """
    if len(batch) < 2:
        raise UsageError(f"a report's pictures need at least 2 images, got {len(batch)}")
    orders = [_neighbours(session.embed(batch.images)) for session in (reference, candidate)]
    differs = (orders[0] != orders[1]).any(axis=1)
    tiles = _Thumbnails(batch)
    shown = np.concatenate([np.flatnonzero(differs), np.flatnonzero(~differs)])[:STRIPS]
    strips = tuple(tiles.strip(int(query), orders[0][query], orders[1][query]) for query in shown)
    panels, convergence, notes = _maps(candidate, batch)
    return Pictures(
        reference.info.path.name,
        candidate.info.path.name,
        strips,
        int(differs.sum()),
        len(batch),
        panels,
        convergence,
        notes,
    )


def _neighbours(embeddings: np.ndarray) -> np.ndarray:
    """Return the nearest other images of each, `(n, k)`, by cosine."""
    count = min(NEIGHBOURS, len(embeddings) - 1)
    return neighbours(unit_rows(embeddings), k=count)[1]


def _maps(
    session: EmbeddingSession, batch: ImageBatch
) -> tuple[tuple[str, ...], Convergence | None, tuple[str, ...]]:
    try:
        maps = pooling_maps(session, batch.images)
    except UsageError as error:  # average pooling, or an export without the weights
        return (), None, (f"no weight maps: {error}",)
    manifest = session.info.manifest
    certificate = None if manifest is None else manifest.certificate
    convergence = measure_convergence(maps, certificate)
    return tuple(_panel_uri(maps, index) for index in _panel_choice(batch)), convergence, ()


def _panel_choice(batch: ImageBatch) -> Sequence[int]:
    """Spread the panels evenly over the images, so that they are of different classes."""
    return np.unique(np.linspace(0, len(batch) - 1, PANELS).round().astype(int)).tolist()


def _panel_uri(maps: PoolingMaps, index: int) -> str:
    return data_uri(map_panel(maps, index, PANEL_TILE))


class _Thumbnails:
    """Makes tiles of a batch's images."""

    def __init__(self, batch: ImageBatch) -> None:
        self._batch = batch
        self._labels = class_labels(batch.files)

    def strip(self, query: int, before: np.ndarray, after: np.ndarray) -> Strip:
        return Strip(
            self._tile(query, None),
            tuple(self._tile(int(index), query) for index in before),
            tuple(self._tile(int(index), query) for index in after),
        )

    def _tile(self, index: int, query: int | None) -> Tile:
        same = None
        if query is not None and self._labels is not None:
            same = bool(self._labels[index] == self._labels[query])
        picture = Image.fromarray(self._batch.images[index])
        picture.thumbnail((THUMBNAIL, THUMBNAIL))
        return Tile(data_uri(picture), _name_of(self._batch.files[index]), same)


def _name_of(file: Path) -> str:
    return f"{file.parent.name}/{file.name}"


def data_uri(picture: Image.Image) -> str:
    """Return a picture as a JPEG in a `data:` address."""
    stream = io.BytesIO()
    picture.convert("RGB").save(stream, format="JPEG", quality=85)
    return f"data:image/jpeg;base64,{base64.b64encode(stream.getvalue()).decode()}"
