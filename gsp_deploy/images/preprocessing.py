"""From an image file to pixels of the model's size: decode, turn upright, resize, crop."""

from __future__ import annotations

import os

import numpy as np
from PIL import Image

from gsp_deploy.config import PreprocessingSpec
from gsp_deploy.images.decoding import decode_image

__all__ = ["FILTERS", "decode_image", "fit_image", "load_image"]

# The interpolations of a `PreprocessingSpec`, as Pillow has them.
FILTERS = {
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
}


def fit_image(image: Image.Image, spec: PreprocessingSpec) -> np.ndarray:
    """Resize and crop an RGB image to the model's size: uint8 `(height, width, 3)`."""
    box = None if spec.resize == "stretch" else _crop_box(image.size, spec)
    resample = FILTERS[spec.interpolation]
    return np.asarray(image.resize((spec.width, spec.height), resample, box=box))


def load_image(path: str | os.PathLike[str], spec: PreprocessingSpec) -> np.ndarray:
    """Decode a file and fit it to the model's size: uint8 `(height, width, 3)`, RGB, upright.

    Raises:
        DataError: there is no such file, it is damaged, or it is no image that Pillow reads.
        ImageSizeError: it has more pixels than are decoded.
    """
    return fit_image(decode_image(path), spec)


def _crop_box(
    original: tuple[int, int], spec: PreprocessingSpec
) -> tuple[float, float, float, float]:
    """Return what the crop sees, in the image's own pixels: left, top, right, bottom.

    The crop is centred on whole pixels of the resized image, which itself is never made: a long
    thin image would be huge.
    """
    wanted = (spec.width, spec.height)
    scale = max(wanted[0] / original[0], wanted[1] / original[1]) / spec.crop_ratio
    near, far = [], []
    for have, want in zip(original, wanted, strict=True):
        resized = max(want, round(have * scale))
        start = (resized - want) // 2
        near.append(start * have / resized)
        far.append(min((start + want) * have / resized, have))
    return near[0], near[1], far[0], far[1]
