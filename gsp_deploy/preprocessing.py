"""From an image file to pixels of the model's size: decode, turn upright, resize, crop."""

from __future__ import annotations

import math
import os
import warnings

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from gsp_deploy.config import PreprocessingSpec
from gsp_deploy.errors import DataError

MAX_PIXELS = 64_000_000
IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".ppm"})

_FILTERS = {
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
}


def decode_image(path: str | os.PathLike[str]) -> Image.Image:
    """Return the image in a file as 8-bit RGB, turned upright by its EXIF orientation.

    Of an animated file the first frame is taken. 16-bit greyscale is scaled to 8 bits.

    Raises:
        DataError: the file is missing, is no image, is damaged, or is beyond `MAX_PIXELS`.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path) as image:
                if image.width * image.height > MAX_PIXELS:
                    raise DataError(
                        f"{path}: {image.width}x{image.height} is beyond the limit of "
                        f"{MAX_PIXELS:,} pixels; scale it down first"
                    )
                return _to_rgb(ImageOps.exif_transpose(image))
    except FileNotFoundError as error:
        raise DataError(f"{path}: no such file") from error
    except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
        raise DataError(f"{path}: {error}; scale it down first") from error
    except UnidentifiedImageError as error:
        raise DataError(f"{path}: not an image that Pillow can read") from error
    except (OSError, ValueError, SyntaxError, EOFError) as error:
        raise DataError(f"{path}: damaged image ({error})") from error


def fit_image(image: Image.Image, spec: PreprocessingSpec) -> np.ndarray:
    """Resize and crop an RGB image to the model's size: uint8 `(height, width, 3)`."""
    resample = _FILTERS[spec.interpolation]
    if spec.resize == "stretch":
        return np.asarray(image.resize((spec.width, spec.height), resample))
    scale = max(spec.width / image.width, spec.height / image.height) / spec.crop_ratio
    size = (
        max(spec.width, round(image.width * scale)),
        max(spec.height, round(image.height * scale)),
    )
    left, top = (size[0] - spec.width) // 2, (size[1] - spec.height) // 2
    resized = image if image.size == size else image.resize(size, resample)
    return np.asarray(resized.crop((left, top, left + spec.width, top + spec.height)))


def load_image(path: str | os.PathLike[str], spec: PreprocessingSpec) -> np.ndarray:
    """Decode a file and fit it to the model's size: uint8 `(height, width, 3)`."""
    return fit_image(decode_image(path), spec)


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I"):  # 16-bit or 32-bit greyscale: Pillow's convert clips, so scale
        values = np.asarray(image).astype(np.float64)
        top = 65535 if values.max(initial=0) <= 65535 else values.max()
        grey = np.round(values.clip(0) * (255 / max(top, 1))).astype(np.uint8)
        return Image.fromarray(grey).convert("RGB")
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        opaque = Image.new("RGBA", image.size, (255, 255, 255, 255))
        opaque.alpha_composite(image.convert("RGBA"))
        return opaque.convert("RGB")
    rgb = image.convert("RGB")
    if not math.prod(rgb.size):
        raise ValueError("the image has no pixels")
    return rgb
