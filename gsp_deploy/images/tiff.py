"""Find tags of a TIFF file whose data is not in the file, and empty them.

Pillow stops reading a directory at such a tag, so a title that is lost would cost the pixels.
"""

from __future__ import annotations

import io
import os
import struct
from collections.abc import Iterator
from typing import BinaryIO

_ORDERS = {b"II*\0": "<", b"MM\0*": ">"}
SIGNATURES = tuple(_ORDERS)
# Bytes of one value, by the number of the entry's type.
_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4}
# Tags that say what the pixels are, and where; without one of them the image is damaged.
_PIXELS = frozenset(
    {
        *range(254, 267), 273, 277, 278, 279, 284, *range(290, 294), 301, 317, *range(320, 326),
        332, 338, 339, 347, *range(512, 522), *range(529, 533),
    }
)  # fmt: skip
_ENTRY = 12
_EMPTY = (1, 1, 0)  # one byte, 0


def with_lost_tags_emptied(stream: BinaryIO) -> BinaryIO:
    """Return a stream of the same file, the file itself if no tag is lost.

    Only the first directory is read. A BigTIFF is left as it is.
    """
    begin = stream.tell()
    length = stream.seek(0, os.SEEK_END) - begin
    stream.seek(begin)
    start = stream.read(8)
    order = _ORDERS.get(start[:4])
    lost = list(_lost(stream, begin, length, order)) if order and len(start) == 8 else []
    stream.seek(begin)
    if not lost:
        return stream
    content = bytearray(stream.read())
    for at, tag in lost:
        struct.pack_into(f"{order}HHLL", content, at, tag, *_EMPTY)
    return io.BytesIO(content)


def _lost(stream: BinaryIO, begin: int, length: int, order: str) -> Iterator[tuple[int, int]]:
    """Yield the place and the number of each tag whose data ends outside of the file."""
    stream.seek(begin + 4)
    (at,) = struct.unpack(f"{order}L", stream.read(4))
    stream.seek(begin + at)
    count = stream.read(2)
    if len(count) < 2:
        return
    entries = stream.read(_ENTRY * struct.unpack(f"{order}H", count)[0])
    for place in range(0, len(entries) - _ENTRY + 1, _ENTRY):
        tag, kind, number, where = struct.unpack_from(f"{order}HHLL", entries, place)
        size = _SIZES.get(kind, 0) * number
        if tag not in _PIXELS and size > 4 and where + size > length:
            yield at + 2 + place, tag
