"""From an image file to pixels of the model's size: decode, turn upright, resize, crop."""

from __future__ import annotations

import math
import os
from typing import BinaryIO

import numpy as np
from PIL import Image, ImageFile, UnidentifiedImageError

from gsp_deploy.config import PreprocessingSpec
from gsp_deploy.errors import DataError, ImageSizeError, reason_of
from gsp_deploy.images.formats import formats_sentence, readable_formats

MAX_PIXELS = 64_000_000

_ORIENTATION = 0x0112  # the EXIF tag, and what turns its values upright
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
# What Pillow multiplies greys of fewer than 8 bits with, by its name for their coding.
_GREY_STEPS = {"L;2": 85, "L;4": 17}
# The interpolations of a `PreprocessingSpec`, as Pillow has them.
FILTERS = {
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
}


def decode_image(
    source: str | os.PathLike[str] | BinaryIO,
    name: str | None = None,
    max_pixels: int = MAX_PIXELS,
    formats: tuple[str, ...] | None = None,
) -> Image.Image:
    """Return the image in a file as 8-bit RGB, turned upright by its EXIF orientation.

    Of an animated file the first frame is taken. 16-bit greyscale is scaled to 8 bits.

    Args:
        source: the file's path, or a stream that can seek.
        name: what messages call it; a path's own name if left out.
        max_pixels: what the header may announce before anything is decoded.
        formats: the formats that are tried, by Pillow's names; None tries all that are read here.

    Raises:
        DataError: the file is missing, is no image, is damaged, or has floating-point pixels.
        ImageSizeError: it is beyond `max_pixels`.
    """
    name = str(source) if name is None else name
    try:
        with Image.open(source, formats=formats or readable_formats()) as image:
            _check_size(image, name, max_pixels)
            _check_range(image, name)
            _spread_transparent_grey(image)
            return _to_rgb(_upright(image))
    except DataError:
        raise
    except FileNotFoundError as error:
        raise DataError(f"{name}: no such file") from error
    except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
        raise ImageSizeError(f"{name}: {error}; scale it down first") from error
    except UnidentifiedImageError as error:
        raise DataError(f"{name}: not an image ({formats_sentence()})") from error
    except Exception as error:  # Pillow's parsers raise whatever a damaged file leads them to
        raise DataError(f"{name}: damaged image ({reason_of(error)})") from error


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


def _check_size(image: Image.Image, name: str, max_pixels: int) -> None:
    if image.width * image.height > max_pixels:
        raise ImageSizeError(
            f"{name}: {image.width}x{image.height} is beyond the limit of "
            f"{max_pixels:,} pixels; scale it down first"
        )


def _check_range(image: Image.Image, name: str) -> None:
    """Refuse floating-point pixels: Pillow clips to 0..255, and makes 0..1 a black image."""
    if image.mode == "F":
        raise DataError(
            f"{name}: floating-point pixels do not say what is white; save it in 8 or 16 bits"
        )


def _spread_transparent_grey(image: ImageFile.ImageFile) -> None:
    """Say in 8 bits which grey is transparent: Pillow spreads the others and forgets this one."""
    grey = image.info.get("transparency")
    step = _GREY_STEPS.get(str(image.tile[0][3])) if image.mode == "L" and image.tile else None
    if step is not None and isinstance(grey, int) and grey <= 255 // step:
        image.info["transparency"] = grey * step


def _upright(image: Image.Image) -> Image.Image:
    # ImageOps.exif_transpose would also write the other tags anew, and fail on a damaged one.
    image.load()  # some formats turn themselves on loading, and then say so
    turn = _TURNS.get(image.getexif().get(_ORIENTATION, 1))
    return image if turn is None else image.transpose(turn)


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
