"""Resize with antialiasing as Pillow does, but compute only the pixels of the crop.

`plugins/runtime/src/resize.cpp` is the same in C++.
"""

from __future__ import annotations

from PIL import Image

from gsp_deploy.images.geometry import Window

# Pillow's filters for the interpolations of a `PreprocessingSpec`.
FILTERS = {
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
}
# If the resized side is more than this many times the crop's side, only the crop is computed: a
# whole side of that length would need too much memory.
_WASTE = 256


def resize_like_whole(
    image: Image.Image,
    across: Window,
    down: Window,
    interpolation: str,
    box: tuple[float, float, float, float] | None = None,
) -> Image.Image:
    """Return the crop of the resized image, as if the whole image were resized and then cropped.

    Pillow resizes one axis after the other and rounds in between, so the order of the axes matters.
    The order here is that of Pillow 13 for the whole image; earlier versions always began with the
    rows. `box` is the part that has the picture: left, top, right, bottom; None is all of it.
    """
    resample = FILTERS[interpolation]
    left, top, right, bottom = box or (0, 0, *image.size)
    if columns_first(image.size, (across.resized, down.resized)):
        shorter = _resize_height(image, down, (top, bottom), resample)
        return _resize_width(shorter, across, (left, right), resample)
    narrower = _resize_width(image, across, (left, right), resample)
    return _resize_height(narrower, down, (top, bottom), resample)


def columns_first(original: tuple[int, int], resized: tuple[int, int]) -> bool:
    """Whether Pillow 13 resizes the columns first: if the height shrinks much more than the width.

    >>> columns_first((400, 400), (300, 100)), columns_first((400, 400), (300, 300))
    (True, False)
    """
    narrower, shorter = (have - size for have, size in zip(original, resized, strict=True))
    return shorter > 0 and shorter > 2 * narrower


def _resize_width(
    image: Image.Image, across: Window, ends: tuple[float, float], resample: Image.Resampling
) -> Image.Image:
    end = across.start + across.size
    if across.resized > _WASTE * across.size:
        left, right = across.within(*ends)
        return image.resize((across.size, image.height), resample, (left, 0, right, image.height))
    box = (ends[0], 0, ends[1], image.height)
    whole = image.resize((across.resized, image.height), resample, box)
    return whole.crop((across.start, 0, end, image.height))


def _resize_height(
    image: Image.Image, down: Window, ends: tuple[float, float], resample: Image.Resampling
) -> Image.Image:
    end = down.start + down.size
    if down.resized > _WASTE * down.size:
        top, bottom = down.within(*ends)
        return image.resize((image.width, down.size), resample, (0, top, image.width, bottom))
    box = (0, ends[0], image.width, ends[1])
    whole = image.resize((image.width, down.resized), resample, box)
    return whole.crop((0, down.start, image.width, end))
