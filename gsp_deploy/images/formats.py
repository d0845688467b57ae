"""Which image formats are read here: the one list that readers, walkers and messages share."""

from __future__ import annotations

from functools import cache

from PIL import Image

# Pillow knows these, and they are not read here.
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
# A file of stereo pictures opens as the JPEG that its first picture is.
_OPENED_AS = {"MPO": "JPEG"}


@cache
def readable_formats() -> tuple[str, ...]:
    """Return the formats that are read here, by Pillow's names, sorted.

    They are what the installed Pillow opens, plugins that were registered before included,
    without the few that are no pictures or that Pillow cannot decode by itself.
    """
    Image.init()
    return tuple(sorted(set(Image.OPEN) - _LEFT_OUT.keys()))


@cache
def readable_suffixes() -> frozenset[str]:
    """Return the suffixes of image files that are read here: lower case, with the dot."""
    formats = readable_formats()
    return frozenset(
        suffix.lower()
        for suffix, name in Image.registered_extensions().items()
        if _OPENED_AS.get(name, name) in formats
    )


def formats_sentence() -> str:
    """Return what messages say about formats: `read here are AVIF, BMP, ...`."""
    return f"read here are {', '.join(readable_formats())}"
