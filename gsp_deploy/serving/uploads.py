"""Find the image files in a request's body, and decode them within limits."""

from __future__ import annotations

import io
from collections.abc import Sequence

import numpy as np
from PIL import Image

from gsp_deploy.config import PreprocessingSpec
from gsp_deploy.errors import DataError, ImageSizeError, RequestError, brief
from gsp_deploy.images.formats import readable_formats
from gsp_deploy.images.preprocessing import load_image
from gsp_deploy.serving.forms import Upload, count_parts, files_in_form
from gsp_deploy.serving.routes import BYTES, MULTIPART

RAW_TYPES = (BYTES, "binary/octet-stream")


def images_in(body: bytes, content_type: str) -> int:
    """Return how many image files a body holds at most, without reading them.

    Raises:
        RequestError: 415 for another type of body, 400 if it is empty.
    """
    kind = _kind(content_type)
    if kind == MULTIPART:
        return count_parts(body, content_type)
    if kind not in RAW_TYPES and not kind.startswith("image/"):
        raise RequestError(
            415,
            f"expected an image file as the body (image/*, {RAW_TYPES[0]}) or files in "
            f"{MULTIPART}, got Content-Type {brief(kind)}",
        )
    if not body:
        raise RequestError(400, "expected an image file as the body, got nothing")
    return 1


def uploads_in(body: bytes, content_type: str, most: int) -> list[Upload]:
    """Return the image files in a body: the body itself, or the files of a form.

    Raises:
        RequestError: 400 if a form cannot be read or has no file, 413 if it has too many.
    """
    if _kind(content_type) == MULTIPART:
        return files_in_form(body, content_type, most)
    return [Upload("body", body)]


def announced_pixels(uploads: Sequence[Upload], max_pixels: int) -> int:
    """Return the pixels of all images together, by their headers.

    An image beyond `max_pixels`, or with an unreadable header, counts as 0, because decoding only
    reports its error.
    """
    return sum(size for size in map(_header_pixels, uploads) if size <= max_pixels)


def decode_uploads(
    uploads: Sequence[Upload],
    spec: PreprocessingSpec,
    max_pixels: int,
    *,
    reduced_jpeg: bool = False,
) -> np.ndarray:
    """Return the images at the model's size, uint8 `(n, height, width, 3)`.

    With `reduced_jpeg`, large JPEG files are decoded at a fraction of their size.

    Raises:
        RequestError: 413 for an image of too many pixels, 400 for a file that is not an image; the
            message names the file.
    """
    return np.stack([_pixels(upload, spec, max_pixels, reduced_jpeg) for upload in uploads])


def _kind(content_type: str) -> str:
    return content_type.partition(";")[0].strip().lower()


def _header_pixels(upload: Upload) -> int:
    try:
        with Image.open(io.BytesIO(upload.content), formats=readable_formats()) as image:
            return image.width * image.height
    except Exception:  # any error of a parser; decoding reports it
        return 0


def _pixels(upload: Upload, spec: PreprocessingSpec, max_pixels: int, reduced: bool) -> np.ndarray:
    file = io.BytesIO(upload.content)
    try:
        return load_image(file, spec, reduced=reduced, name=upload.name, max_pixels=max_pixels)
    except ImageSizeError as error:
        raise RequestError(413, str(error)) from error
    except DataError as error:
        raise RequestError(400, str(error)) from error
