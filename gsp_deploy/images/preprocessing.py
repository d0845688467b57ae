"""Prepare an image file for a model: decode it, turn it upright, resize and crop it."""

from __future__ import annotations

import os
from typing import BinaryIO

import numpy as np
from PIL import Image

from gsp_deploy.config import PreprocessingSpec
from gsp_deploy.images.decoding import decode_image
from gsp_deploy.images.geometry import crop_windows
from gsp_deploy.images.limits import MAX_PIXELS
from gsp_deploy.images.opencv_resize import resize_like_opencv
from gsp_deploy.images.pillow_resize import FILTERS, resize_like_whole
from gsp_deploy.images.reduction import fit_reduced

__all__ = ["decode_image", "fit_image", "load_image"]


def fit_image(image: Image.Image, spec: PreprocessingSpec) -> np.ndarray:
    """Resize and crop an RGB image to the model's size: uint8 `(height, width, 3)`.

    Only the crop's part of the resized image is computed, because the whole of a long thin image
    could be huge.

    >>> fit_image(Image.new("RGB", (640, 480)), PreprocessingSpec(224, 224)).shape
    (224, 224, 3)
    """
    across, down = crop_windows(image.size, spec)
    if spec.pipeline == "opencv":
        return resize_like_opencv(np.asarray(image), across, down, spec.interpolation)
    if spec.pipeline == "pillow":
        (left, right), (top, bottom) = across.span(image.width), down.span(image.height)
        size, resample = (spec.width, spec.height), FILTERS[spec.interpolation]
        return np.asarray(image.resize(size, resample, box=(left, top, right, bottom)))
    return np.asarray(resize_like_whole(image, across, down, spec.interpolation))


def load_image(
    source: str | os.PathLike[str] | BinaryIO,
    spec: PreprocessingSpec,
    *,
    reduced: bool = False,
    name: str | None = None,
    max_pixels: int = MAX_PIXELS,
) -> np.ndarray:
    """Decode a file and fit it to the model's size: uint8 `(height, width, 3)`, RGB, upright.

    Args:
        source, name, max_pixels: as for `decode_image`.
        spec: the model's pre-processing.
        reduced: decode large JPEG files at a fraction of their size, which is faster and changes
            pixels; see `fit_reduced`.

    Raises:
        DataError: the file is missing or damaged, or is not an image that Pillow reads.
        ImageSizeError: the image has more pixels than the limit.
        UsageError: `reduced` with the pipeline `opencv`.
    """
    if reduced:
        return fit_reduced(source, spec, name, max_pixels)
    return fit_image(decode_image(source, name, max_pixels), spec)
