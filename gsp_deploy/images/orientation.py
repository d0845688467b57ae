"""Read a photograph's orientation from its EXIF block or its XMP packet, and turn it upright.

`docs/image-decoding.md` has the rule, and `plugins/runtime/src/orientation.cpp` is the same in
C++. The result equals Pillow's `Image.getexif` if Pillow can read the block. A block that cannot be
read is ignored and never makes decoding fail.
"""

from __future__ import annotations

import re
import struct

from PIL import Image

EXIF_PREFIX = b"Exif\0\0"

_ORIENTATION = 0x0112
_BYTE_ORDERS = {b"II*\0": "<", b"MM\0*": ">", b"II\0*": "<", b"MM*\0": ">"}
# Bytes of one value, by the number of the entry's type.
_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8}
# `struct` formats of the numeric types; two numbers are a fraction.
_NUMBERS = {
    3: "H", 4: "L", 5: "LL", 6: "b", 8: "h", 9: "l", 10: "ll", 11: "f", 12: "d", 13: "L", 16: "Q",
}  # fmt: skip
_XMP = re.compile(rb'tiff:Orientation(?:="|>)([0-9])')
FIRST_TURNED = 5  # from here on, width and height change places
# What is stored at the right end or the lower end comes to the left end, or to the upper end.
MIRRORED_ACROSS, MIRRORED_DOWN = (2, 3, 6, 7), (3, 4, 7, 8)
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def stated_orientation(exif: bytes | None, xmp: bytes | None) -> int:
    """Return the orientation from metadata, 1 to 8; 1 if there is none.

    If the EXIF block has the tag, with any value, the block decides; otherwise the XMP packet does.

    >>> stated_orientation(None, b'tiff:Orientation="6"')
    6
    """
    found = None if exif is None else exif_orientation(exif)
    if found is None and xmp is not None:
        match = _XMP.search(xmp)
        found = int(match[1]) if match else None
    return found if found in _TURNS else 1


def exif_orientation(block: bytes) -> int | None:
    """Return the orientation tag's value, 0 if it is not a whole number, None without a tag."""
    while block.startswith(EXIF_PREFIX):
        block = block[len(EXIF_PREFIX) :]
    order = _BYTE_ORDERS.get(block[:4])
    if order is None or len(block) < 8:
        return None
    (at,) = struct.unpack_from(order + "L", block, 4)
    if at + 2 > len(block):
        return None
    (entries,) = struct.unpack_from(order + "H", block, at)
    at += 2
    read = 0  # bytes of values outside their entries so far
    for entry in range(at, min(at + 12 * entries, len(block) - 11), 12):
        tag, kind, count = struct.unpack_from(order + "HHL", block, entry)
        size = _SIZES.get(kind, 0) * count
        start = entry + 8
        if size > 4:
            (start,) = struct.unpack_from(order + "L", block, start)
            read += size
            if read > len(block):  # a count that cannot be true
                continue
            if start + size > len(block):
                return None  # the following entries cannot be trusted either
        if tag == _ORIENTATION and size:
            return _whole_number(block[start : start + size], kind, order)
    return None


def upright(image: Image.Image, orientation: int) -> Image.Image:
    """Return the image turned upright."""
    turn = _TURNS.get(orientation)
    return image if turn is None else image.transpose(turn)


def _whole_number(data: bytes, kind: int, order: str) -> int:
    """Return an entry's first value; 0 for text, and for a number that is not whole."""
    layout = _NUMBERS.get(kind)
    if layout is None:
        return 0
    numbers = struct.unpack_from(order + layout, data)
    value, divisor = numbers if len(numbers) == 2 else (numbers[0], 1)
    if divisor == 0 or value != value or value in (float("inf"), float("-inf")) or value % divisor:
        return 0
    return int(value // divisor)
