"""Images or features to measure an exported solver on."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from gsp_deploy.base.progress import Announce
from gsp_deploy.config import ModelConfig, PreprocessingSpec
from gsp_deploy.errors import DataError
from gsp_deploy.export.head import HeadParameters
from gsp_deploy.images.files import evenly_spaced, find_images, read_images
from gsp_deploy.images.normalisation import normalise
from gsp_deploy.images.preprocessing import fit_image

DEFAULT_IMAGES = 32
_HEAD_ONLY_SIZE = 7
# Photographs that scikit-image's wheel contains: nothing is downloaded.
_PHOTOGRAPHS = ("astronaut", "coffee", "chelsea", "rocket")


@dataclass(frozen=True)
class Calibration:
    """Inputs to measure on.

    Attributes:
        inputs: uint8 images `(n, H, W, 3)`, or float32 features `(n, C, h, w)` of a head alone.
        source: a description of where they come from, which the certificate repeats.
        preprocessing: how images become the network's input; None for features.
    """

    inputs: np.ndarray
    source: str
    preprocessing: PreprocessingSpec | None

    def __post_init__(self) -> None:
        if not len(self.inputs):
            raise DataError(f"expected at least one image to calibrate on, got {self.source}")

    def batches(self, size: int) -> Iterator[np.ndarray]:
        """Yield whole batches; the last one is filled up from the start."""
        for start in range(0, len(self.inputs), size):
            yield np.take(self.inputs, range(start, start + size), axis=0, mode="wrap")

    def prepare(self, inputs: np.ndarray, dtype: str) -> np.ndarray:
        """Convert a batch to the input type of a graph."""
        if dtype == "uint8" or self.preprocessing is None:
            return inputs
        return normalise(inputs, self.preprocessing)


def calibration_from_files(
    folder: str | os.PathLike[str],
    spec: PreprocessingSpec,
    limit: int = DEFAULT_IMAGES,
    announce: Announce = lambda line: None,
) -> Calibration:
    """Read up to `limit` images, evenly spaced over the sorted files below a folder.

    `announce` receives one line with the number of files that were skipped, and one for each image
    that cannot be read.

    Raises:
        DataError: the folder contains no readable image.
    """
    found, failures = read_images(evenly_spaced(find_images([folder], announce), limit), spec)
    for failure in failures:
        announce(f"left out: {failure.reason}")
    return Calibration(found.images, f"{len(found)} images of {Path(folder).name}", spec)


def default_calibration(
    config: ModelConfig, count: int = DEFAULT_IMAGES, near: HeadParameters | None = None
) -> Calibration:
    """Return random crops of photographs, or seeded random features if the model is a head alone.

    Features are half-normal. If you pass a head's parameters as `near`, every other map has
    locations near its prototypes: trained features are there, and the transport is hardest there.
    """
    draw = np.random.default_rng(0)
    if config.preprocessing is None:
        shape = (count, config.trained_head.in_channels, _HEAD_ONLY_SIZE, _HEAD_ONLY_SIZE)
        features = np.abs(draw.standard_normal(shape)).astype(np.float32)
        source = f"{count} random feature maps, seed 0"
        if near is not None and near.prototypes is not None:
            features[1::2] = features_near(near, len(features[1::2]), _HEAD_ONLY_SIZE, draw)
            source = f"{count} random feature maps, every other one near the prototypes, seed 0"
        return Calibration(features, source, None)
    photographs = _photographs()
    crops = [_crop(photographs[i % len(photographs)], draw) for i in range(count)]
    images = np.stack([fit_image(crop, config.preprocessing) for crop in crops])
    source = f"{count} crops of scikit-image photographs, seed 0"
    return Calibration(images, source, config.preprocessing)


def features_near(
    parameters: HeadParameters, count: int, size: int, draw: np.random.Generator
) -> np.ndarray:
    """Return features `(count, C, size, size)`; some of their embeddings are near prototypes.

    In each map 5 to 80 % of the locations have an embedding at a cosine of 0.3 to 1 to one of the
    prototypes, as far as the 1x1 embedding reaches them; the others have random directions.
    """
    prototypes = parameters.prototypes
    assert prototypes is not None
    unit = prototypes / np.maximum(np.linalg.norm(prototypes, axis=1, keepdims=True), 1e-12)
    total = size * size
    wanted = _unit(draw.standard_normal((count, total, unit.shape[1])))
    for locations in wanted:
        near = draw.random(total) < draw.uniform(0.05, 0.8)
        cosine = draw.uniform(0.3, 1.0, (total, 1))
        target = unit[draw.integers(0, len(unit), total)]
        mixed = cosine * target + np.sqrt(1 - cosine**2) * locations
        locations[near] = mixed[near]
    bias = 0.0 if parameters.embed_bias is None else parameters.embed_bias
    features = (2 * wanted - bias) @ np.linalg.pinv(parameters.embed_weight).T  # (n, N, C)
    maps: np.ndarray = features.swapaxes(1, 2).reshape(count, -1, size, size)
    return maps.astype(np.float32)


def _unit(vectors: np.ndarray) -> np.ndarray:
    unit: np.ndarray = vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)
    return unit


def _photographs() -> list[Image.Image]:
    import skimage.data  # slow to import, and needed here only

    return [Image.fromarray(getattr(skimage.data, name)()).convert("RGB") for name in _PHOTOGRAPHS]


def _crop(photograph: Image.Image, draw: np.random.Generator) -> Image.Image:
    side = int(min(photograph.size) * draw.uniform(0.4, 1.0))
    left = int(draw.integers(0, photograph.width - side + 1))
    top = int(draw.integers(0, photograph.height - side + 1))
    return photograph.crop((left, top, left + side, top + side))
