"""Leave the EXIF block out of an AVIF file, because a bad one makes its decoder refuse the file.

An AVIF file states its orientation as a property of the image, and the block has no say in it. So
the block's item gets a type that decoders pass over.
"""

from __future__ import annotations

import re

_BRANDS = (b"avif", b"avis")
# An entry of the list of items: version 2 or 3, flags, the item's number, protection, its type.
_EXIF_ITEM = re.compile(rb"(infe(?:\x02.{7}|\x03.{9}))Exif", re.DOTALL)
_PASSED_OVER = rb"\1skip"


def is_avif(start: bytes) -> bool:
    """Whether a file that starts with these 12 bytes says that it is an AVIF file."""
    return start[4:8] == b"ftyp" and start[8:12] in _BRANDS


def without_exif(content: bytes) -> bytes:
    """Return the file with its EXIF items passed over; everything else stays where it is."""
    return _EXIF_ITEM.sub(_PASSED_OVER, content)
