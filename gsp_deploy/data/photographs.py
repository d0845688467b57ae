"""Make backgrounds from crops of the photographs in scikit-image's wheel.

Only files in the installed package are opened; scikit-image's downloader is never used.
"""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from typing import Literal

import numpy as np
from PIL import Image

from gsp_deploy.errors import MissingCapabilityError
from gsp_deploy.images.preprocessing import decode_image

Part = Literal["train", "test"]

# Each part has scenes, close-ups and textures; no photograph is in both.
PHOTOGRAPHS: dict[Part, tuple[str, ...]] = {
    "train": (
        "astronaut.png",
        "brick.png",
        "coffee.png",
        "coins.png",
        "grass.png",
        "hubble_deep_field.jpg",
        "retina.jpg",
        "camera.png",
    ),
    "test": ("chelsea.png", "gravel.png", "ihc.png", "moon.png", "rocket.jpg", "cell.png"),
}
TEXTURES: dict[Part, tuple[str, ...]] = {
    "train": ("brick.png", "grass.png"),
    "test": ("gravel.png", "ihc.png"),
}

_LONGER_SIDE = 512


def background(rng: np.random.Generator, part: Part, size: int) -> Image.Image:
    """Return a random crop of a photograph, RGB `(size, size)`, with reduced contrast.

    Position, scale, mirroring, tint, brightness and contrast vary. The contrast is limited so that
    a glyph is visible anywhere on the crop.
    """
    names = PHOTOGRAPHS[part]
    crop = crop_of(rng, names[rng.integers(len(names))], size)
    contrast = rng.uniform(0.3, 0.85)
    brightness = rng.uniform(0.2, 0.8, size=1) + rng.uniform(-0.08, 0.08, size=3)
    mean = np.asarray(crop.reduce(4), dtype=np.float64).mean(axis=(0, 1))
    levels = np.arange(256)
    tables = [(levels - mean[c]) * contrast + 255 * brightness[c] for c in range(3)]
    return crop.point(np.concatenate(tables).round().clip(0, 255).astype(np.uint8).tolist())


def crop_of(rng: np.random.Generator, name: str, size: int) -> Image.Image:
    """Return a random square crop of one photograph, mirrored half the time, RGB `(size, size)`."""
    photo = photograph(name)
    side = rng.uniform(0.25, 0.8) * min(photo.size)
    left, top = (rng.uniform(0, extent - side) for extent in photo.size)
    box = (left, top, left + side, top + side)
    crop = photo.resize((size, size), Image.Resampling.BILINEAR, box=box, reducing_gap=2.0)
    return crop.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if rng.random() < 0.5 else crop


@cache
def photograph(name: str) -> Image.Image:
    """Return a photograph as RGB, at most 512 pixels on its longer side.

    Raises:
        MissingCapabilityError: the installed scikit-image does not have it.
    """
    try:
        resource = files("skimage.data") / name
        found = resource.is_file()
    except ModuleNotFoundError:
        found = False
    if not found:
        raise MissingCapabilityError(
            f"scikit-image's photograph {name} is not installed; install scikit-image from PyPI "
            "(pip install 'scikit-image>=0.24')"
        )
    image = decode_image(str(resource))
    image.thumbnail((_LONGER_SIDE, _LONGER_SIDE), Image.Resampling.LANCZOS)
    return image
