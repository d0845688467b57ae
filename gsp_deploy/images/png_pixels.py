"""Turn the rows of a PNG file into RGB: Pillow undoes the filters, this module does the rest."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
from PIL import Image

from gsp_deploy.images.png import GREY, PALETTE, SIGNATURE, PngFile
from gsp_deploy.images.transparency import on_white


def decode_png(file: PngFile) -> Image.Image:
    """Return the pixels as 8-bit RGB on white, in their stored orientation.

    Raises:
        ValueError: the pixels are not complete.
    """
    stream = _stream(file, file.rows())
    samples = _samples(stream)
    if file.header.colour == PALETTE:
        return Image.fromarray(_looked_up(file, samples))
    if samples.ndim == 2:
        samples = samples[:, :, None]
    if samples.shape[2] in (2, 4):
        return Image.fromarray(on_white(samples[:, :, :-1], samples[:, :, -1]))
    hole = None if file.transparency is None else _hole(file, stream, samples)
    if samples.dtype == np.uint16:
        samples = ((samples.astype(np.uint32) + 128) // 257).astype(np.uint8)  # to the nearest
    if hole is not None:
        samples = np.where(hole[:, :, None], np.uint8(255), samples)
    return Image.fromarray(np.ascontiguousarray(np.broadcast_to(samples, (*samples.shape[:2], 3))))


def _stream(file: PngFile, rows: bytes) -> bytes:
    """Return a PNG file with only the pixels."""
    head = file.header
    header = struct.pack(
        ">IIBBBBB", head.width, head.height, head.depth, head.colour, 0, 0, head.interlaced
    )
    palette = [(b"PLTE", bytes(3 << head.depth))] if head.colour == PALETTE else []
    chunks = [(b"IHDR", header), *palette, (b"IDAT", zlib.compress(rows, 0)), (b"IEND", b"")]
    return SIGNATURE + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in chunks
    )


def _samples(stream: bytes, layout: str | None = None) -> np.ndarray:
    """Return the samples, `(height, width)` or `(height, width, channels)`.

    Grey with fewer than 8 bits is scaled to 8. Samples of 16 bits give their high byte, except
    grey without alpha, which gives all 16 bits. `layout` is Pillow's name for the order of samples
    in a row.
    """
    with Image.open(io.BytesIO(stream), formats=("PNG",)) as image:
        if layout is not None:
            image.tile = [(*image.tile[0][:3], layout)]  # type: ignore[attr-defined, list-item]
        samples = np.asarray(image)
        return samples * np.uint8(255) if samples.dtype == bool else samples


def _looked_up(file: PngFile, indices: np.ndarray) -> np.ndarray:
    """Return the palette's colours on white; an index beyond the palette is black."""
    colours, alpha = np.zeros((256, 3), np.uint8), np.full(256, 255, np.uint8)
    listed = np.frombuffer(file.palette or b"", np.uint8).reshape(-1, 3)
    colours[: len(listed)] = listed
    veils = np.frombuffer(file.transparency or b"", np.uint8)[:256]
    alpha[: len(veils)] = veils
    return on_white(colours[None], alpha[None])[0][indices]


def _hole(file: PngFile, stream: bytes, samples: np.ndarray) -> np.ndarray:
    """Return the pixels that equal the transparent colour in every bit, bool `(height, width)`."""
    assert file.transparency is not None
    depth = file.header.depth
    count = 1 if file.header.colour == GREY else 3
    wanted = np.array(struct.unpack_from(f">{count}H", file.transparency)) & (1 << depth) - 1
    if depth < 8:
        wanted = wanted * 255 // ((1 << depth) - 1)
    if depth == 16 and count == 3:
        low = _samples(stream, "RGB;16L")  # little-endian, so that Pillow returns the low bytes
        return ((samples == wanted >> 8) & (low == wanted & 255)).all(axis=2)
    return (samples == wanted).all(axis=2)
