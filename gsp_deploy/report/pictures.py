"""What a report shows of images: neighbours before and after, and what the pooling keeps."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from gsp_deploy.errors import UsageError
from gsp_deploy.explain import PoolingMaps, map_pictures, pooling_maps
from gsp_deploy.image_files import ImageBatch, class_labels
from gsp_deploy.manifest import SolverCertificate
from gsp_deploy.metrics import neighbours, unit_rows
from gsp_deploy.report.convergence import Convergence, measure_convergence
from gsp_deploy.runtime import EmbeddingSession

THUMBNAIL = 72
PANEL_TILE = 144
STRIPS, NEIGHBOURS, PANELS = 6, 6, 6
HEAVIEST = 3


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
class Panel:
    """What the pooling keeps of one image: pictures, and the same in figures.

    Attributes:
        name: of the image.
        pictures: captions and data URIs.
        least, greatest: of its mixing weights, which have mean 1.
        half_in: the smallest share of its locations that holds half of what is kept.
        prototypes: share of the kept mass by prototype, the heaviest first; empty if unknown.
    """

    name: str
    pictures: tuple[tuple[str, str], ...]
    least: float
    greatest: float
    half_in: float
    prototypes: tuple[tuple[int, float], ...]


@dataclass(frozen=True)
class Pictures:
    """Images of a report.

    Attributes:
        reference, candidate: file names of the two models.
        strips: those whose neighbours changed first.
        changed: how many of `queries` images have another order of their nearest images.
        panels: weight maps.
        convergence: of the solvers on these images; None if the candidate does not tell.
        certificate: of the candidate's solver; None without one.
        notes: what could not be shown, and why.
    """

    reference: str
    candidate: str
    strips: tuple[Strip, ...]
    changed: int
    queries: int
    panels: tuple[Panel, ...]
    convergence: Convergence | None
    certificate: SolverCertificate | None
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
    strips = tuple(tiles.strip(q, orders[0][q], orders[1][q]) for q in _strip_choice(differs))
    panels, convergence, notes = _maps(candidate, batch)
    manifest = candidate.info.manifest
    return Pictures(
        reference.info.path.name,
        candidate.info.path.name,
        strips,
        int(differs.sum()),
        len(batch),
        panels,
        convergence,
        None if manifest is None else manifest.certificate,
        notes,
    )


def _neighbours(embeddings: np.ndarray) -> np.ndarray:
    """Return the nearest other images of each, `(n, k)`, by cosine."""
    count = min(NEIGHBOURS, len(embeddings) - 1)
    return neighbours(unit_rows(embeddings), k=count)[1]


def _maps(
    session: EmbeddingSession, batch: ImageBatch
) -> tuple[tuple[Panel, ...], Convergence | None, tuple[str, ...]]:
    try:
        maps = pooling_maps(session, batch.images)
    except UsageError as error:  # average pooling, or an export without the weights
        return (), None, (f"no weight maps: {error}",)
    shown = _spread(np.arange(len(batch)), PANELS)
    panels = tuple(_panel(maps, index, batch.files[index]) for index in shown)
    return panels, measure_convergence(maps), ()


def _strip_choice(differs: np.ndarray) -> list[int]:
    """Choose what changed, then what did not."""
    changed, same = np.flatnonzero(differs)[:STRIPS], np.flatnonzero(~differs)
    return [*changed.tolist(), *_spread(same, STRIPS - len(changed))]


def _spread(indices: np.ndarray, count: int) -> list[int]:
    """Choose up to so many evenly from all, so that they are of different classes."""
    if not count or not len(indices):
        return []
    places = np.linspace(0, len(indices) - 1, count).round().astype(int)
    return indices[np.unique(places)].tolist()  # type: ignore[no-any-return]


def _panel(maps: PoolingMaps, index: int, file: Path) -> Panel:
    weights, attributes = maps.weights[index], maps.attributes
    pictures = tuple(
        (part.caption, data_uri(part.picture)) for part in map_pictures(maps, index, PANEL_TILE)
    )
    heaviest: tuple[tuple[int, float], ...] = ()
    if attributes is not None:
        order = np.argsort(-attributes[index], kind="stable")[:HEAVIEST]
        heaviest = tuple((int(m), float(attributes[index, m])) for m in order)
    least, greatest = float(weights.min()), float(weights.max())
    return Panel(_name_of(file), pictures, least, greatest, _half_in(weights), heaviest)


def _half_in(weights: np.ndarray) -> float:
    """Return the smallest share of locations whose weights sum to half of all."""
    sums = np.cumsum(np.sort(weights, axis=None)[::-1])
    return float(np.searchsorted(sums, sums[-1] / 2) + 1) / weights.size


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
