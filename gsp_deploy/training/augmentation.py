"""Change training images at random: crop, flip, brightness, contrast, saturation."""

from __future__ import annotations

import math

import numpy as np
from PIL import Image, ImageEnhance

from gsp_deploy.config import PreprocessingSpec
from gsp_deploy.images.preprocessing import FILTERS, fit_image
from gsp_deploy.training.sections import AugmentationSection

_CROPS_TRIED = 10
_COLOUR_CHANGES = (
    ("brightness", ImageEnhance.Brightness),
    ("contrast", ImageEnhance.Contrast),
    ("saturation", ImageEnhance.Color),
)


def augment(
    image: Image.Image,
    settings: AugmentationSection,
    spec: PreprocessingSpec,
    rng: np.random.Generator,
) -> np.ndarray:
    """Change an RGB image at random and fit it to the model: uint8 `(height, width, 3)`."""
    box = _random_box(image.size, settings, rng)
    if box is None:
        fitted = Image.fromarray(fit_image(image, spec))
    else:
        fitted = image.resize((spec.width, spec.height), FILTERS[spec.interpolation], box)
    if settings.flip and rng.random() < 0.5:
        fitted = fitted.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    for name, enhancer in _COLOUR_CHANGES:
        if strength := getattr(settings, name):
            fitted = enhancer(fitted).enhance(rng.uniform(1 - strength, 1 + strength))
    return np.asarray(fitted)


def _random_box(
    size: tuple[int, int], settings: AugmentationSection, rng: np.random.Generator
) -> tuple[float, float, float, float] | None:
    """Draw `(left, top, right, bottom)`; None means the usual pre-processing without a crop."""
    if settings.crop_area is None:
        return None
    width, height = size
    narrowest, widest = map(math.log, settings.crop_aspect)
    for _ in range(_CROPS_TRIED):
        area = width * height * rng.uniform(*settings.crop_area)
        aspect = math.exp(rng.uniform(narrowest, widest))
        crop_width, crop_height = math.sqrt(area * aspect), math.sqrt(area / aspect)
        if crop_width <= width and crop_height <= height:
            left = rng.uniform(0, width - crop_width)
            top = rng.uniform(0, height - crop_height)
            return left, top, left + crop_width, top + crop_height
    return None
