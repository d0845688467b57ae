"""Image files in a request's body, and the pixels in them: decoded within limits, or refused."""

from __future__ import annotations

import io
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass

import numpy as np
from starlette.datastructures import Headers, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser

from gsp_deploy.config import PreprocessingSpec
from gsp_deploy.errors import DataError, ImageSizeError, RequestError
from gsp_deploy.images.preprocessing import decode_image, fit_image

RAW_TYPES = ("application/octet-stream", "binary/octet-stream")
MULTIPART = "multipart/form-data"
LONGEST_NAME = 100


@dataclass(frozen=True)
class Upload:
    """An image file as it came: what the client calls it, and its bytes."""

    name: str
    content: bytes


async def uploads_in(body: bytes, headers: Headers, max_files: int, max_bytes: int) -> list[Upload]:
    """Return the image files in a body: the body itself, or the files of a form.

    Raises:
        RequestError: 415 for another type of body, 400 where there is no file in it.
    """
    kind = headers.get("content-type", RAW_TYPES[0]).partition(";")[0].strip().lower()
    if kind == MULTIPART:
        return await _form_files(body, headers, max_files, max_bytes)
    if kind not in RAW_TYPES and not kind.startswith("image/"):
        raise RequestError(
            415,
            f"expected an image file as the body (image/*, {RAW_TYPES[0]}) or files in "
            f"{MULTIPART}, got Content-Type {kind[:LONGEST_NAME]!r}",
        )
    if not body:
        raise RequestError(400, "expected an image file as the body, got nothing")
    return [Upload("body", body)]


def decode_uploads(
    uploads: Sequence[Upload], spec: PreprocessingSpec, max_pixels: int
) -> np.ndarray:
    """Return the images at the model's size, uint8 `(n, height, width, 3)`.

    Raises:
        RequestError: 413 for an image of too many pixels, 400 for what is no image; the file is
            named.
    """
    return np.stack([_pixels(upload, spec, max_pixels) for upload in uploads])


def _pixels(upload: Upload, spec: PreprocessingSpec, max_pixels: int) -> np.ndarray:
    try:
        image = decode_image(io.BytesIO(upload.content), upload.name, max_pixels)
    except ImageSizeError as error:
        raise RequestError(413, str(error)) from error
    except DataError as error:
        raise RequestError(400, str(error)) from error
    return fit_image(image, spec)


async def _form_files(
    body: bytes, headers: Headers, max_files: int, max_bytes: int
) -> list[Upload]:
    async def whole() -> AsyncGenerator[bytes, None]:
        yield body

    parser = MultiPartParser(
        headers, whole(), max_files=max_files, max_fields=max_files, max_part_size=max_bytes
    )
    try:
        form = await parser.parse()
    except (MultiPartException, KeyError, ValueError) as error:
        raise RequestError(400, f"the form cannot be read: {error}") from error
    try:
        files = [item for _, item in form.multi_items() if isinstance(item, UploadFile)]
        if not files:
            raise RequestError(400, "expected files in the form, as in curl -F image=@cat.jpg")
        return [
            Upload(_name_of(file, index), await file.read()) for index, file in enumerate(files)
        ]
    finally:
        await form.close()


def _name_of(file: UploadFile, index: int) -> str:
    """Return the file's name as one line that can be shown."""
    name = "".join(c for c in file.filename or "" if c.isprintable())[:LONGEST_NAME]
    return name or f"file {index + 1}"
