"""Read JPEG files: separate the segments that the pixels need from the metadata.

The decoder receives only the segments that it needs for the pixels, so damage in EXIF, ICC or XMP
cannot reach it. `docs/image-decoding.md` has the rules, and `plugins/runtime/src/jpeg_stream.cpp`
is the same in C++.
"""

from __future__ import annotations

import io
import re
from dataclasses import dataclass, field

from PIL import Image

from gsp_deploy.images.limits import MAX_SCANS
from gsp_deploy.images.orientation import EXIF_PREFIX

SIGNATURE = b"\xff\xd8\xff"

_XMP_PREFIX = b"http://ns.adobe.com/xap/1.0/\0"
_NEXT = re.compile(rb"\xff+([^\x00\xff])", re.DOTALL)
_NEXT_AFTER_SCAN = re.compile(rb"\xff+([^\x00\xff\xd0-\xd7])", re.DOTALL)
_START, _END, _SCAN = 0xD8, 0xD9, 0xDA
_EXIF_OR_XMP, _JFIF, _ADOBE = 0xE1, 0xE0, 0xEE
_ALONE = {0x01, *range(0xD0, 0xD8)}  # markers without a segment; ignored outside scans
_METADATA = {*range(0xE0, 0xF0), 0xFE, 0xDC}
_TABLES = {0xC4, 0xCC, 0xDB, 0xDD}
# Baseline, extended and progressive, with Huffman or arithmetic codes.
_FRAMES = {0xC0, 0xC1, 0xC2, 0xC9, 0xCA}
_PROGRESSIVE = {0xC2, 0xCA}
# If a progressive file does not send these frequencies completely, libjpeg guesses them, and its
# versions guess differently.
_GUESSED = 10
_NOTHING_SENT = 16


@dataclass
class JpegFile:
    """The contents of a JPEG file.

    `pixels` is a JPEG stream with only the segments that the pixels need. `exif` and `xmp` are the
    blocks before the first scan, or None. `missing_bits` counts, by channel and frequency, the bits
    of a progressive file's lowest frequencies that no scan has sent yet.
    """

    width: int = 0
    height: int = 0
    exif: bytes | None = None
    xmp: bytes | None = None
    parts: list[bytes] = field(default_factory=lambda: [b"\xff\xd8"])
    components: int = 0
    progressive: bool = False
    scans: int = 0
    missing_bits: dict[tuple[int, int], int] = field(default_factory=dict)

    @property
    def pixels(self) -> bytes:
        """The stream for a decoder."""
        return b"".join(self.parts)

    @property
    def in_one_scan(self) -> bool:
        """Whether the first scan has all of the pixels."""
        return not self.progressive and self.parts[-1][4] == self.components and self.scans == 1


def read_jpeg(content: bytes) -> JpegFile:
    """Read a JPEG file's segments.

    Raises:
        ValueError: the file is damaged, or its kind of JPEG is not supported; the message says
            which.
    """
    made = JpegFile()
    at, in_scan = 2, False
    while True:
        match = (_NEXT_AFTER_SCAN if in_scan else _NEXT).search(content, at)
        if match is None:
            if made.scans == 0:
                raise ValueError("it ends too early")
            made.parts += [content[at:]] if in_scan else []
            return made
        if in_scan:
            last = made.in_one_scan
            made.parts.append(content[at : match.start()])
            if last:
                made.parts.append(b"\xff\xd9")
                return made
        marker, at = match[1][0], match.end()
        if marker == _END:
            if made.scans == 0:
                raise ValueError("it has no pixels")
            if any(made.missing_bits.values()):
                raise ValueError("scans are missing")
            made.parts.append(b"\xff\xd9")
            return made
        in_scan = marker == _SCAN
        if marker not in _ALONE:
            at = _take_segment(made, marker, content, at)


def decode_jpeg(file: JpegFile) -> Image.Image:
    """Return the pixels as 8-bit RGB, in their stored orientation."""
    return decode_reduced_jpeg(file, (file.width, file.height))[0]


def decode_reduced_jpeg(file: JpegFile, least: tuple[int, int]) -> tuple[Image.Image, int]:
    """Return the pixels as `decode_jpeg` does at 1/1, 1/2, 1/4 or 1/8, and that divisor.

    The decoder leaves out the high frequencies, which takes less time than all pixels. It takes the
    smallest size that has at least `least` pixels across and down.
    """
    with Image.open(io.BytesIO(file.pixels), formats=("JPEG",)) as image:
        reduction = 1
        if least != image.size and (chosen := image.draft(None, least)) is not None:
            reduction = round(file.width / chosen[1][2])
        return image.convert("RGB"), reduction


def _take_segment(made: JpegFile, marker: int, content: bytes, at: int) -> int:
    """Read the segment after a marker and return where it ends."""
    length = int.from_bytes(content[at : at + 2], "big")
    metadata = marker in _METADATA
    if metadata:
        length = max(length, 2)
    end = at + length
    if end > len(content) or at + 2 > len(content):
        raise ValueError("it ends too early")
    if length < 2:
        raise ValueError(f"segment FF{marker:02X} has no length")
    body = content[at + 2 : end]
    if metadata:
        if made.scans == 0:
            _take_metadata(made, marker, body)
        return end
    if marker in _FRAMES:
        _take_frame(made, marker, body)
    elif marker == _SCAN:
        _take_scan(made, body)
    elif marker not in _TABLES:
        raise ValueError(f"it is of a kind of JPEG that is not read, by its marker FF{marker:02X}")
    made.parts.append(_segment(marker, body))
    return end


def _take_metadata(made: JpegFile, marker: int, body: bytes) -> None:
    if marker == _EXIF_OR_XMP and body.startswith(EXIF_PREFIX):
        # A block that is too long for one segment continues in the next.
        made.exif = body if made.exif is None else made.exif + body[len(EXIF_PREFIX) :]
    elif marker == _EXIF_OR_XMP and body.startswith(_XMP_PREFIX):
        made.xmp = body[len(_XMP_PREFIX) :]
    elif (marker == _JFIF and body.startswith(b"JFIF\0") and len(body) >= 14) or (
        marker == _ADOBE and body.startswith(b"Adobe") and len(body) >= 12
    ):
        made.parts.append(_segment(marker, body))  # these define the colour space


def _take_frame(made: JpegFile, marker: int, body: bytes) -> None:
    if made.components:
        raise ValueError("it has two frames")
    if len(body) < 6 or len(body) != 6 + 3 * body[5]:
        raise ValueError("its frame is not whole")
    if body[0] != 8:
        raise ValueError(f"it has {body[0]} bits a sample, expected 8")
    if body[5] not in (1, 3, 4):
        raise ValueError(f"it has {body[5]} channels, expected 1, 3 or 4")
    made.height, made.width = (int.from_bytes(body[i : i + 2], "big") for i in (1, 3))
    made.components, made.progressive = body[5], marker in _PROGRESSIVE
    if made.progressive:
        channels = body[6::3]
        made.missing_bits = {(c, i): _NOTHING_SENT for c in channels for i in range(_GUESSED)}


def _take_scan(made: JpegFile, body: bytes) -> None:
    if not made.components or not body:
        raise ValueError("a scan comes before its frame")
    if len(body) != 4 + 2 * body[0]:
        raise ValueError("a scan's header is not whole")
    channels, (first, last, bits) = body[1:-3:2], body[-3:]
    for key in made.missing_bits:
        if key[0] in channels and first <= key[1] <= last:
            made.missing_bits[key] = bits & 15
    made.scans += 1
    if made.scans > MAX_SCANS:
        raise ValueError(f"it has more than {MAX_SCANS} scans")


def _segment(marker: int, body: bytes) -> bytes:
    return bytes((0xFF, marker)) + (len(body) + 2).to_bytes(2, "big") + body
