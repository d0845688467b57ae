"""Show what the pooling keeps of an image: maps, and the same as figures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from gsp_deploy.explain import PoolingMaps, map_pictures
from gsp_deploy.images.data_uri import data_uri
from gsp_deploy.images.files import evenly_spaced, name_with_folder

PANELS = 6
HEAVIEST = 3
TILE = 144  # pixels


@dataclass(frozen=True)
class Panel:
    """What the pooling keeps of one image.

    Attributes:
        name: the image's file name, with its folder.
        pictures: captions and data URIs.
        least, greatest: the smallest and largest mixing weight; their mean is 1.
        half_in: the smallest share of locations that contains half of the kept mass.
        prototypes: share of the kept mass by prototype, largest first; empty if unknown.
    """

    name: str
    pictures: tuple[tuple[str, str], ...]
    least: float
    greatest: float
    half_in: float
    prototypes: tuple[tuple[int, float], ...]


def panels_of(maps: PoolingMaps, files: Sequence[Path]) -> tuple[Panel, ...]:
    """Return panels of some of the mapped images, evenly spaced."""
    chosen = evenly_spaced(range(len(files)), PANELS)
    return tuple(_panel(maps, index, files[index]) for index in chosen)


def _panel(maps: PoolingMaps, index: int, file: Path) -> Panel:
    weights = maps.weights[index]
    drawn = map_pictures(maps, index, TILE)
    return Panel(
        name_with_folder(file),
        tuple((part.caption, data_uri(part.picture)) for part in drawn),
        float(weights.min()),
        float(weights.max()),
        _half_in(weights),
        () if maps.attributes is None else _heaviest(maps.attributes[index]),
    )


def _half_in(weights: np.ndarray) -> float:
    """Return the smallest share of locations with half of the total weight."""
    sums = np.cumsum(np.sort(weights, axis=None)[::-1])
    return float(np.searchsorted(sums, sums[-1] / 2) + 1) / weights.size


def _heaviest(attributes: np.ndarray) -> tuple[tuple[int, float], ...]:
    order = np.argsort(-attributes, kind="stable")[:HEAVIEST]
    return tuple((int(prototype), float(attributes[prototype])) for prototype in order)
