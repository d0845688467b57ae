"""What the transport weights of a trained model look at: the object, or what surrounds it."""

from __future__ import annotations

import numpy as np

from gsp_deploy.data import LabelledImages
from gsp_deploy.explain import PoolingMaps, pooling_maps
from gsp_deploy.runtime import EmbeddingSession

# Test images that are looked at: so many of each class.
EACH = 4


def object_mass(session: EmbeddingSession, images: LabelledImages) -> dict[str, float]:
    """Return the share of the weights that lies on the object, and the object's share of area.

    Means over `EACH` images a class. A location counts by the share of its own cell that the
    object's ink covers, so that equal weights give a mass equal to the area.
    """
    chosen = some_of_each_class(images, EACH)
    maps = pooling_maps(session, pixels_of(images, chosen))
    covered = coverage(images, chosen, maps.weights.shape[1:])
    mass = (maps.weights * covered).mean(axis=(1, 2))
    return {
        "object_mass": float(mass.mean()),
        "object_area": float(covered.mean()),
        "weight_spread": float(maps.weights.std(axis=(1, 2)).mean()),
    }


def some_of_each_class(images: LabelledImages, count: int) -> np.ndarray:
    """Return the indices of the first `count` images of each class."""
    return np.concatenate(
        [np.flatnonzero(images.labels == c)[:count] for c in np.unique(images.labels)]
    )


def pixels_of(images: LabelledImages, chosen: np.ndarray) -> np.ndarray:
    """Return images as uint8 `(n, H, W, 3)`; they are drawn at the network's size."""
    return np.stack([np.asarray(images.image(int(index))) for index in chosen])


def coverage(images: LabelledImages, chosen: np.ndarray, locations: tuple[int, ...]) -> np.ndarray:
    """Return the share of each location's cell that the object covers, `(n, h, w)`."""
    rows, columns = locations
    masks = np.stack([images.object_mask(int(index)) for index in chosen]).astype(float)
    height, width = masks.shape[1] // rows, masks.shape[2] // columns
    cells = masks.reshape(len(masks), rows, height, columns, width)
    return np.asarray(cells.mean(axis=(2, 4)))


def of_images(session: EmbeddingSession, images: LabelledImages, chosen: np.ndarray) -> PoolingMaps:
    """Return the maps of chosen images."""
    return pooling_maps(session, pixels_of(images, chosen))
