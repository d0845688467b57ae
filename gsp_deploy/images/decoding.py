"""Decode an image file to upright 8-bit RGB.

JPEG and PNG follow the rules in `docs/image-decoding.md`, as in the C++ library; Pillow decodes
their pixels. Pillow reads every other format completely.
"""

from __future__ import annotations

import io
import math
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, BinaryIO

import numpy as np
from PIL import Image, UnidentifiedImageError

from gsp_deploy.base.inputs import NotRegularError, open_regular
from gsp_deploy.errors import DataError, ImageSizeError, reason_of
from gsp_deploy.images import avif, gif, jpeg, png, png_pixels, tiff, webp
from gsp_deploy.images.formats import formats_sentence, readable_formats
from gsp_deploy.images.limits import MAX_FILE_BYTES, MAX_PIXELS
from gsp_deploy.images.orientation import (
    FIRST_TURNED,
    MIRRORED_ACROSS,
    MIRRORED_DOWN,
    stated_orientation,
    upright,
)
from gsp_deploy.images.transparency import on_white

_ORIENTATION = 0x0112


@dataclass(frozen=True)
class Decoded:
    """An upright RGB image, decoded whole or reduced.

    Attributes:
        image: 8-bit RGB.
        size: width and height in the file, upright.
        box: the part of `image` that has the picture, in its own pixels: left, top, right, bottom.
            The size divided by the reduction need not be whole.
    """

    image: Image.Image
    size: tuple[int, int]
    box: tuple[float, float, float, float]


def decode_image(
    source: str | os.PathLike[str] | BinaryIO,
    name: str | None = None,
    max_pixels: int = MAX_PIXELS,
) -> Image.Image:
    """Return the image in a file as 8-bit RGB, turned upright by its metadata.

    An animated file gives its first frame. 16-bit greyscale is scaled to 8 bits. Metadata that
    cannot be read is ignored.

    Args:
        source: the file's path, or a stream that can seek.
        name: name for messages; the default is the path.
        max_pixels: limit for the size in the header, checked before anything is decoded.

    Raises:
        DataError: the file is missing, damaged or not an image, or has floating-point pixels.
        ImageSizeError: the image has more than `max_pixels`, or the file is too large.
    """
    return decode_reduced(source, _whole, name, max_pixels).image


def decode_reduced(
    source: str | os.PathLike[str] | BinaryIO,
    least: Callable[[tuple[int, int]], tuple[int, int]],
    name: str | None = None,
    max_pixels: int = MAX_PIXELS,
) -> Decoded:
    """Decode as `decode_image` does, but a JPEG file at 1/2, 1/4 or 1/8 if that is large enough.

    Args:
        source, name, max_pixels: as for `decode_image`.
        least: the smallest width and height that are enough for an upright image of a size.

    Raises:
        DataError, ImageSizeError: as `decode_image` does.
    """
    name = shown_name(source) if name is None else name
    try:
        if isinstance(source, (str, os.PathLike)):
            with open_regular(source) as stream:
                _check_length(os.fstat(stream.fileno()).st_size, name)
                return _decode(stream, name, max_pixels, least)
        return _decode(source, name, max_pixels, least)
    except DataError:
        raise
    except FileNotFoundError as error:
        raise DataError(f"{name}: no such file") from error
    except NotRegularError as error:
        raise DataError(f"{name}: {error.strerror}") from error
    except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
        raise ImageSizeError(f"{name}: {error}; scale it down first") from error
    except UnidentifiedImageError as error:
        raise DataError(f"{name}: not an image ({formats_sentence()})") from error
    except Exception as error:  # a damaged file can raise any type in Pillow's parsers
        raise DataError(f"{name}: damaged image ({reason_of(error)})") from error


def _whole(size: tuple[int, int]) -> tuple[int, int]:
    return size


def shown_name(source: object) -> str:
    """Return a file's name as one line of printable text; other bytes become escapes.

    >>> shown_name("a\\nb.png")
    'a\\\\nb.png'
    """
    if isinstance(source, (str, os.PathLike)):
        text = os.fsencode(source).decode("utf-8", "backslashreplace")
        return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
    return str(source)


def _check_length(length: int, name: str) -> None:
    if length > MAX_FILE_BYTES:
        raise ImageSizeError(
            f"{name}: {length:,} bytes are beyond the limit of {MAX_FILE_BYTES:,}; "
            "scale it down first"
        )


def _decode(
    stream: BinaryIO,
    name: str,
    max_pixels: int,
    least: Callable[[tuple[int, int]], tuple[int, int]],
) -> Decoded:
    start = stream.read(len(png.SIGNATURE))
    stream.seek(-len(start), os.SEEK_CUR)
    if start.startswith(jpeg.SIGNATURE):
        photograph = jpeg.read_jpeg(stream.read())
        _check_size(photograph.width, photograph.height, name, max_pixels)
        return _upright_jpeg(photograph, least)
    if start == png.SIGNATURE:
        drawing = png.read_png(stream.read())
        _check_size(drawing.header.width, drawing.header.height, name, max_pixels)
        image = png_pixels.decode_png(drawing)
        return _not_reduced(upright(image, stated_orientation(drawing.exif, drawing.xmp)))
    with _open(stream) as image:
        _check_size(image.width, image.height, name, max_pixels)
        _check_range(image, name)
        if image.format == "TIFF":
            return _not_reduced(_decode_tiff(image))
        image.load()
        exif, xmp = (_bytes_or_none(image.info.get(key)) for key in ("exif", "xmp"))
        return _not_reduced(upright(_to_rgb(image), stated_orientation(exif, xmp)))


def _not_reduced(image: Image.Image) -> Decoded:
    return Decoded(image, image.size, (0, 0, *image.size))


def _upright_jpeg(
    file: jpeg.JpegFile, least: Callable[[tuple[int, int]], tuple[int, int]]
) -> Decoded:
    orientation = stated_orientation(file.exif, file.xmp)
    turned = orientation >= FIRST_TURNED
    across, down = (file.height, file.width) if turned else (file.width, file.height)
    wanted = least((across, down))
    image, reduction = jpeg.decode_reduced_jpeg(file, wanted[::-1] if turned else wanted)
    image = upright(image, orientation)
    width, height = across / reduction, down / reduction
    left = image.width - width if orientation in MIRRORED_ACROSS else 0
    top = image.height - height if orientation in MIRRORED_DOWN else 0
    return Decoded(image, (across, down), (left, top, left + width, top + height))


def _open(stream: BinaryIO) -> Image.Image:
    """Open a file of any format but JPEG and PNG; its pixels are not decoded yet."""
    start = stream.read(12)
    stream.seek(-len(start), os.SEEK_CUR)
    metadata: dict[str, bytes] = {}
    if avif.is_avif(start):
        stream = io.BytesIO(avif.without_exif(stream.read()))
    elif webp.is_webp(start):
        pixels, metadata = webp.split_webp(stream.read())
        stream = io.BytesIO(pixels)
    elif start.startswith(gif.SIGNATURES):
        stream = io.BytesIO(gif.without_hiding_comments(stream.read()))
    elif start.startswith(tiff.SIGNATURES):
        stream = tiff.with_lost_tags_emptied(stream)
    image = Image.open(stream, formats=readable_formats())
    image.info.update(metadata)
    return image


def _check_size(width: int, height: int, name: str, max_pixels: int) -> None:
    if not width or not height:
        raise ValueError("the image has no pixels")
    if width * height > max_pixels:
        raise ImageSizeError(
            f"{name}: {width}x{height} is beyond the limit of "
            f"{max_pixels:,} pixels; scale it down first"
        )


def _check_range(image: Image.Image, name: str) -> None:
    """Refuse floating-point pixels: Pillow clips to 0..255, so values from 0 to 1 become black."""
    if image.mode == "F":
        raise DataError(
            f"{name}: floating-point pixels do not say what is white; save it in 8 or 16 bits"
        )


def _decode_tiff(image: Any) -> Image.Image:
    """Decode without Pillow's step after loading, which reads all metadata and fails on damage."""
    image.load_end = lambda: None
    image.load()
    try:
        stated = image.tag_v2.get(_ORIENTATION)  # TIFF has it among the image's own tags
        orientation = None if stated is None else int(stated)
    except Exception:  # a damaged tag can raise any type
        orientation = 1
    if orientation is None:
        orientation = stated_orientation(None, _bytes_or_none(image.info.get("xmp")))
    return upright(_to_rgb(image.copy()), orientation)  # the copy has the stored size


def _bytes_or_none(value: object) -> bytes | None:
    return value if isinstance(value, bytes) else None


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I"):  # 16-bit or 32-bit greyscale: Pillow's convert clips, so scale
        values = np.asarray(image).astype(np.float64)
        top = 65535 if values.max(initial=0) <= 65535 else values.max()
        grey = np.round(values.clip(0) * (255 / max(top, 1))).astype(np.uint8)
        return Image.fromarray(grey).convert("RGB")
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        layers = np.asarray(image.convert("RGBA"))
        return Image.fromarray(on_white(layers[:, :, :3], layers[:, :, 3]))
    rgb = image.convert("RGB")
    if not math.prod(rgb.size):
        raise ValueError("the image has no pixels")
    return rgb
