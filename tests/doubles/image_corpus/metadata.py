"""EXIF blocks and XMP packets, whole and damaged, with the orientation that each states."""

from __future__ import annotations

import struct

SHORT, LONG, ORIENTATION = 3, 4, 0x0112
PREFIX = b"Exif\0\0"


def entry(tag: int, kind: int, count: int, value: bytes, order: str = "<") -> bytes:
    """Return an entry of a directory; `value` is padded to 4 bytes."""
    return struct.pack(order + "HHL", tag, kind, count) + value.ljust(4, b"\0")


def block(*entries: bytes, order: str = "<", offset: int = 8, after: bytes = b"") -> bytes:
    """Return a TIFF block of one directory at `offset`."""
    magic = b"II*\0" if order == "<" else b"MM\0*"
    start = (magic + struct.pack(order + "L", offset)).ljust(offset, b"\0")
    return start + struct.pack(order + "H", len(entries)) + b"".join(entries) + bytes(4) + after


def orientation(value: int, kind: int = SHORT, order: str = "<", count: int = 1) -> bytes:
    """Return the orientation's entry, its value as `kind` stores whole numbers."""
    layout = {1: "B", 3: "H", 4: "L", 6: "b", 7: "B", 8: "h", 9: "l", 11: "f", 13: "L"}[kind]
    return entry(ORIENTATION, kind, count, struct.pack(order + layout, value), order)


def stated(value: int, order: str = "<") -> bytes:
    """Return a block that states an orientation."""
    return block(orientation(value, order=order), order=order)


# The directory has one entry of 12 bytes: what lies outside starts at 8 + 2 + 12 + 4.
_OUTSIDE = 26


def outside(kind: int, count: int, value: bytes, order: str = "<") -> bytes:
    """Return a block whose orientation's value lies outside of its entry."""
    place = struct.pack(order + "L", _OUTSIDE)
    return block(entry(ORIENTATION, kind, count, place, order), order=order, after=value)


def exif_blocks() -> dict[str, tuple[bytes, int | None]]:
    """Return blocks by name, each with the orientation stated, None where it states none."""
    found: dict[str, tuple[bytes, int | None]] = {}
    for order, word in (("<", "little"), (">", "big")):
        for value in range(10):
            found[f"{word}-{value}"] = (stated(value, order), value)
        for kind in (4, 6, 8, 9, 11, 13):
            found[f"{word}-type-{kind}"] = (block(orientation(6, kind, order), order=order), 6)
        for kind in (1, 7):  # bytes are no number
            found[f"{word}-type-{kind}"] = (block(orientation(6, kind, order), order=order), 0)
        pair = struct.pack(order + "LL", 12, 2)
        found[f"{word}-fraction"] = (outside(5, 1, pair, order), 6)
        found[f"{word}-signed-fraction"] = (outside(10, 1, pair, order), 6)
        found[f"{word}-no-fraction"] = (outside(5, 1, bytes(8), order), 0)
        found[f"{word}-double"] = (outside(12, 1, struct.pack(order + "d", 6), order), 6)
        found[f"{word}-three"] = (outside(3, 3, struct.pack(order + "3H", 6, 3, 1), order), 6)
        found[f"{word}-far"] = (block(orientation(6, order=order), order=order, offset=300), 6)
    six = orientation(6)
    swapped = stated(6)
    found |= {
        "two-values": (block(entry(ORIENTATION, 3, 2, struct.pack("<HH", 6, 3))), 6),
        "count-0": (block(orientation(6, count=0)), None),
        "count-0-then-6": (block(orientation(8, count=0), six), 6),
        "unknown-type-then-6": (block(entry(ORIENTATION, 99, 1, b"\3"), six), 6),
        "text": (block(entry(ORIENTATION, 2, 2, b"6\0")), 0),
        "twice": (block(six, orientation(3)), 6),
        "nothing": (b"", None),
        "no-entries": (block(), None),
        "another-tag": (block(entry(0x010F, 2, 4, b"abc\0")), None),
        "after-a-tag": (block(entry(0x010F, 2, 4, b"abc\0"), six), 6),
        "after-a-tag-outside": (
            block(entry(0x010F, 2, 8, struct.pack("<L", 38)), six, after=b"maker !\0"), 6
        ),
        "after-a-tag-beyond-the-end": (
            block(entry(0x010F, 2, 8, struct.pack("<L", 9000)), six), None
        ),
        "after-a-count-beyond-belief": (
            block(entry(0x010F, 2, 1 << 30, struct.pack("<L", 8)), six), 6
        ),
        "value-beyond-the-end": (block(entry(ORIENTATION, 3, 9, struct.pack("<L", 9000))), None),
        "count-beyond-belief": (block(entry(ORIENTATION, 4, 1 << 31, bytes(4))), None),
        "bigtiff": (b"II+\0" + swapped[4:], None),
        "bigtiff-big-endian": (b"MM\0+" + stated(6, ">")[4:], None),
        "magic-swapped": (b"II\0*" + swapped[4:], 6),
        "magic-swapped-big-endian": (b"MM*\0" + stated(6, ">")[4:], 6),
        "no-magic": (b"\0\x08\0\2\1\x12\0\3", None),
        "another-magic": (b"II*\1" + swapped[4:], None),
        "directory-beyond-the-end": (b"II*\0\xff\xff\xff\x7f" + swapped[8:], None),
        "directory-at-0": (b"II*\0\0\0\0\0" + swapped[8:], None),
        "more-entries-than-there-are": (swapped[:8] + b"\xff\xff" + swapped[10:], 6),
        "cut-after-magic": (swapped[:4], None),
        "cut-after-offset": (swapped[:8], None),
        "cut-in-the-entry": (swapped[:20], None),
        "cut-after-the-entry": (swapped[:22], 6),
        "prefixed": (PREFIX + swapped, 6),
        "prefixed-twice": (PREFIX * 2 + swapped, 6),
        "noise": (bytes(range(256)) * 3, None),
    }  # fmt: skip
    return found


def xmp_packets() -> dict[str, tuple[bytes, int | None]]:
    """Return packets by name, each with the orientation stated, None where it states none."""

    def packet(inner: str) -> bytes:
        return f'<x:xmpmeta xmlns:x="adobe:ns:meta/">{inner}</x:xmpmeta>'.encode()

    return {
        "attribute": (packet('<rdf tiff:Orientation="6"/>'), 6),
        "element": (packet("<tiff:Orientation>8</tiff:Orientation>"), 8),
        "elsewhere-first": (packet('<a about="tiff:Orientation"/><b tiff:Orientation="3"/>'), 3),
        "two": (packet('<b tiff:Orientation="3"/><b tiff:Orientation="6"/>'), 3),
        "zero": (packet('<b tiff:Orientation="0"/>'), 0),
        "nine": (packet('<b tiff:Orientation="9"/>'), 9),
        "two-digits": (packet('<b tiff:Orientation="62"/>'), 6),
        "single-quotes": (packet("<b tiff:Orientation='6'/>"), None),
        "no-number": (packet('<b tiff:Orientation="x"/>'), None),
        "none": (packet("<b/>"), None),
        "empty": (b"", None),
        "cut": (b'<b tiff:Orientation="', None),
        "not-text": (b'\xff\xfe\0<b tiff:Orientation="6"/>', 6),
    }


def turn_of(exif: int | None, xmp: int | None = None) -> int:
    """Return which way an image is turned, by what its two blocks state."""
    found = xmp if exif is None else exif
    return found if found in range(2, 9) else 1
