"""Read PNG files: their chunks, and the packed pixels in them.

The decoder receives only the chunks that it needs for the pixels, so damage in EXIF, ICC or text
cannot reach it. `docs/image-decoding.md` has the rules, and `plugins/runtime/src/png_stream.cpp`
is the same in C++.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field

from gsp_deploy.images.png_text import EXIF, PROFILE, XMP, png_text, unpacked_profile

SIGNATURE = b"\x89PNG\r\n\x1a\n"

_DEPTHS = {0: (1, 2, 4, 8, 16), 2: (8, 16), 3: (1, 2, 4, 8), 4: (8, 16), 6: (8, 16)}
_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
# Adam7: the first column and row of a pass, and its steps.
_PASSES = (
    (0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2),
    (0, 1, 1, 2),
)  # fmt: skip
GREY, COLOUR, PALETTE, GREY_ALPHA, COLOUR_ALPHA = 0, 2, 3, 4, 6


@dataclass(frozen=True)
class PngHeader:
    """The fields of IHDR.

    Raises:
        ValueError: PNG does not allow this combination.
    """

    width: int
    height: int
    depth: int
    colour: int
    interlaced: int

    def __post_init__(self) -> None:
        if self.depth not in _DEPTHS.get(self.colour, ()) or self.interlaced > 1:
            raise ValueError(
                f"PNG has no colour type {self.colour} of {self.depth} bits "
                f"with interlacing {self.interlaced}"
            )

    @property
    def data_bytes(self) -> int:
        """Bytes of all rows, each with one byte for its filter."""
        passes = _PASSES if self.interlaced else ((0, 0, 1, 1),)
        bits = self.depth * _CHANNELS[self.colour]
        total = 0
        for left, top, across, down in passes:
            columns = -(-(self.width - left) // across)
            rows = -(-(self.height - top) // down)
            if columns > 0 and rows > 0:
                total += rows * (1 + (columns * bits + 7) // 8)
        return total


@dataclass
class PngFile:
    """The contents of a PNG file: header, palette and transparency, packed pixels, metadata."""

    header: PngHeader
    palette: bytes | None = None
    transparency: bytes | None = None
    packed: list[memoryview] = field(default_factory=list)
    texts: dict[bytes, bytes] = field(default_factory=dict)

    @property
    def exif(self) -> bytes | None:
        """The EXIF block: the chunk's, or else the one that ImageMagick writes as text."""
        if EXIF in self.texts:
            return self.texts[EXIF]
        return unpacked_profile(self.texts[PROFILE]) if PROFILE in self.texts else None

    @property
    def xmp(self) -> bytes | None:
        """The XMP packet."""
        return self.texts.get(XMP)

    def rows(self) -> bytes:
        """Return the unpacked rows, `header.data_bytes` bytes; any further bytes are ignored.

        Raises:
            ValueError: the rows are not complete.
        """
        packed = self.packed[0] if len(self.packed) == 1 else memoryview(b"".join(self.packed))
        if len(packed) < 2:
            raise ValueError("it ends too early")
        method, flags = packed[0], packed[1]
        if method & 15 != 8 or method >> 4 > 7 or (method << 8 | flags) % 31 or flags & 32:
            raise ValueError("its pixels are not packed as PNG packs them")
        # Skip zlib's frame, because the checksum at its end is not checked.
        rows = zlib.decompressobj(-15).decompress(packed[2:], self.header.data_bytes)
        if len(rows) < self.header.data_bytes:
            raise ValueError("it ends too early")
        return rows


def read_png(content: bytes) -> PngFile:
    """Read a PNG file's chunks.

    Raises:
        ValueError: a chunk that the pixels need is damaged; the message says which.
    """
    chunks = _chunks(content)
    made = PngFile(_header(next(chunks, None)))
    pixels_over = False
    for chunk in chunks:
        if chunk.kind == b"IEND":
            break
        if chunk.kind == b"IDAT" and not pixels_over:
            made.packed.append(chunk.data)
        elif made.packed:
            pixels_over = True  # PNG allows only one run of pixel chunks
            _take_metadata(made, chunk)
        else:
            _take_before_pixels(made, chunk)
    if not made.packed:
        raise ValueError("it ends too early")
    if made.header.colour == PALETTE and made.palette is None:
        raise ValueError("it has no palette")
    return made


@dataclass(frozen=True)
class _Chunk:
    kind: bytes
    data: memoryview
    whole: bool  # complete, and its checksum is right


def _chunks(content: bytes) -> Iterator[_Chunk]:
    """Yield the chunks of a file, up to its end or to the first bytes that are not a chunk."""
    view = memoryview(content)
    at = len(SIGNATURE)
    while at + 8 <= len(content):
        length, kind = struct.unpack_from(">I4s", content, at)
        if not kind.isalpha():
            return
        data = view[at + 8 : at + 8 + length]
        end = at + 8 + length
        whole = end + 4 <= len(content)
        if whole and kind != b"IDAT":  # damaged pixels are found when they are unpacked
            whole = zlib.crc32(data, zlib.crc32(kind)) == int.from_bytes(view[end : end + 4], "big")
        yield _Chunk(kind, data, whole)
        at = end + 4


def _header(chunk: _Chunk | None) -> PngHeader:
    if chunk is None or chunk.kind != b"IHDR" or len(chunk.data) != 13 or not chunk.whole:
        raise ValueError("its header is damaged")
    width, height, depth, colour, packing, filtering, interlaced = struct.unpack(
        ">IIBBBBB", chunk.data
    )
    if packing or filtering:
        raise ValueError(f"PNG has no packing {packing} with filters {filtering}")
    return PngHeader(width, height, depth, colour, interlaced)


def _take_before_pixels(made: PngFile, chunk: _Chunk) -> None:
    colour = made.header.colour
    if chunk.kind == b"IHDR":
        raise ValueError("it has two headers")
    if chunk.kind == b"PLTE" and colour == PALETTE:
        if not chunk.whole or len(chunk.data) % 3 or not 3 <= len(chunk.data) <= 768:
            raise ValueError("its palette is damaged")
        made.palette = bytes(chunk.data)
    elif chunk.kind == b"tRNS" and colour in (GREY, COLOUR, PALETTE):
        if not chunk.whole or len(chunk.data) < {GREY: 2, COLOUR: 6, PALETTE: 0}[colour]:
            raise ValueError("its transparency is damaged")
        made.transparency = bytes(chunk.data)
    else:
        _take_metadata(made, chunk)


def _take_metadata(made: PngFile, chunk: _Chunk) -> None:
    if not chunk.whole:
        return
    if chunk.kind == b"eXIf":
        made.texts[EXIF] = bytes(chunk.data)
    elif found := png_text(chunk.kind, bytes(chunk.data)):
        made.texts[found[0]] = found[1]
