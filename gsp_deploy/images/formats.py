"""List the readable image formats, for readers, folder walks and messages."""

from __future__ import annotations

from functools import cache

from PIL import Image

# Pillow knows these formats, but this package does not read them.
_LEFT_OUT = {
    "EPS": "Pillow starts another program for it",
    "FITS": "measurements without a white point, in a stream that may unpack without bound",
    "IPTC": "a wrapper of captions",
    "BUFR": "Pillow recognises it and cannot decode it",
    "GRIB": "Pillow recognises it and cannot decode it",
    "HDF5": "Pillow recognises it and cannot decode it",
    "MPEG": "Pillow recognises it and cannot decode it",
    "WMF": "Pillow decodes it on Windows only",
}
# A file of stereo pictures opens as a JPEG, because its first picture is one.
_OPENED_AS = {"MPO": "JPEG"}


@cache
def readable_formats() -> tuple[str, ...]:
    """Return the readable formats by Pillow's names, sorted.

    These are the formats that the installed Pillow opens, including plugins that you registered
    before the first call, but without those that are not pictures or that Pillow cannot decode by
    itself.
    """
    Image.init()
    return tuple(sorted(set(Image.OPEN) - _LEFT_OUT.keys()))


@cache
def readable_suffixes() -> frozenset[str]:
    """Return the suffixes of readable image files, in lower case with the dot.

    >>> ".png" in readable_suffixes()
    True
    """
    formats = readable_formats()
    return frozenset(
        suffix.lower()
        for suffix, name in Image.registered_extensions().items()
        if _OPENED_AS.get(name, name) in formats
    )


def formats_sentence() -> str:
    """Return the words for messages: `supported formats are AVIF, BMP, ...`."""
    return f"supported formats are {', '.join(readable_formats())}"
