"""Split a WebP file: its decoder gets the chunks that the pixels need, and no metadata.

libwebp refuses a file with a damaged chunk of EXIF or XMP, or one that ends within it.
"""

from __future__ import annotations

import struct

_PIXELS = (b"VP8X", b"VP8 ", b"VP8L", b"ALPH", b"ANIM", b"ANMF")
_METADATA = {b"EXIF": "exif", b"XMP ": "xmp"}
_START = 12  # RIFF, the file's size, WEBP
# The bits of VP8X that promise ICC, EXIF and XMP.
_PROMISES = 0x20 | 0x08 | 0x04


def is_webp(start: bytes) -> bool:
    """Whether a file that starts with these 12 bytes says that it is a WebP file."""
    return start[:4] == b"RIFF" and start[8:12] == b"WEBP"


def split_webp(content: bytes) -> tuple[bytes, dict[str, bytes]]:
    """Return the file without metadata, and its first `exif` and `xmp`, if they are whole."""
    parts: list[bytes] = []
    metadata: dict[str, bytes] = {}
    at = _START
    while at + 8 <= len(content):
        kind, size = content[at : at + 4], int.from_bytes(content[at + 4 : at + 8], "little")
        end = at + 8 + size
        if kind in _PIXELS:
            parts.append(_without_promises(content[at : end + size % 2]))
        elif kind in _METADATA and end <= len(content):
            metadata.setdefault(_METADATA[kind], content[at + 8 : end])
        at = end + size % 2
    body = b"WEBP" + b"".join(parts)
    return b"RIFF" + struct.pack("<I", len(body)) + body, metadata


def _without_promises(chunk: bytes) -> bytes:
    if not chunk.startswith(b"VP8X") or len(chunk) < 9:
        return chunk
    return chunk[:8] + bytes((chunk[8] & ~_PROMISES,)) + chunk[9:]
