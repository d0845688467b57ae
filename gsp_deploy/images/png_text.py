"""Read the text chunks of a PNG file that may contain its orientation."""

from __future__ import annotations

import zlib

from gsp_deploy.images.limits import MAX_TEXT_BYTES

EXIF = b"exif"
PROFILE = b"Raw profile type exif"
XMP = b"XML:com.adobe.xmp"


def png_text(kind: bytes, data: bytes) -> tuple[bytes, bytes] | None:
    """Return the keyword and the text of a text chunk that may contain EXIF or XMP.

    Return None for any other chunk, and for a text that cannot be unpacked or is too long.
    """
    keyword, _, rest = data.partition(b"\0")
    if keyword not in (PROFILE, XMP) and (keyword, kind) != (EXIF, b"tEXt"):
        return None
    if kind == b"tEXt":
        text: bytes | None = rest if len(rest) <= MAX_TEXT_BYTES else None
    elif kind == b"zTXt":
        text = _unpacked(rest[1:]) if rest[:1] in (b"", b"\0") else None
    elif kind == b"iTXt":
        text = _international(rest)
    else:
        return None
    return None if text is None else (keyword, text)


def unpacked_profile(text: bytes) -> bytes | None:
    """Return the EXIF block from ImageMagick's text: hexadecimal after three lines of header."""
    try:
        return bytes.fromhex(b"".join(text.split(b"\n")[3:]).decode("ascii"))
    except ValueError:
        return None


def _international(rest: bytes) -> bytes | None:
    """Return the text after the flags, the language and the translated keyword."""
    parts = rest[2:].split(b"\0", 2)
    if len(parts) < 3:
        return None
    if rest[0] == 0:
        return parts[2] if len(parts[2]) <= MAX_TEXT_BYTES else None
    return _unpacked(parts[2]) if rest[1] == 0 else None


def _unpacked(packed: bytes) -> bytes | None:
    unpacking = zlib.decompressobj()
    try:
        text = unpacking.decompress(packed, MAX_TEXT_BYTES)
    except zlib.error:
        return None
    return None if unpacking.unconsumed_tail else text
