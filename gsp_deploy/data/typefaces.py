"""Draw glyphs with matplotlib's typefaces, and find the characters that each typeface covers."""

from __future__ import annotations

import unicodedata
from functools import cache, lru_cache
from pathlib import Path

import matplotlib
from matplotlib.ft2font import FT2Font
from PIL import Image, ImageDraw, ImageFont

from gsp_deploy.errors import MissingCapabilityError

# Upright and slanted faces; every script has its printed letter forms in them.
_UPRIGHT = (
    "DejaVuSans",
    "DejaVuSans-Bold",
    "DejaVuSans-Oblique",
    "DejaVuSans-BoldOblique",
    "DejaVuSansMono",
    "DejaVuSansMono-Bold",
    "DejaVuSansMono-Oblique",
    "DejaVuSansMono-BoldOblique",
    "DejaVuSerif",
    "DejaVuSerif-Bold",
    "STIXGeneral",
    "STIXGeneralBol",
)
# True italics; small Cyrillic letters have the shapes of Latin ones in them.
_ITALIC = ("DejaVuSerif-Italic", "DejaVuSerif-BoldItalic", "STIXGeneralItalic", "STIXGeneralBolIta")
# Computer Modern: its files use TeX's encoding for some code points, but not for letters.
_COMPUTER_MODERN = ("cmr10", "cmb10", "cmss10", "cmtt10", "cmti10")

TYPEFACES = _UPRIGHT + _ITALIC + _COMPUTER_MODERN


@cache
def typefaces_of(character: str) -> tuple[str, ...]:
    """Return the names of the typefaces that have a glyph for `character`."""
    code = ord(character)
    faces = [face for face in _UPRIGHT if code in _covered(face)]
    if not unicodedata.name(character, "").startswith("CYRILLIC"):
        faces += [face for face in _ITALIC if code in _covered(face)]
    if character.isascii() and character.isalpha():
        faces += [face for face in _COMPUTER_MODERN if code in _covered(face)]
    return tuple(faces)


@lru_cache(maxsize=16384)
def glyph(character: str, typeface: str, extent: int) -> Image.Image:
    """Return the glyph as an 8-bit mask without margins, `extent` pixels on its longer side.

    It is drawn larger and then reduced, so that thin strokes become grey instead of breaking.
    """
    font = typeface_at(typeface, 3 * extent)
    left, top, right, bottom = font.getbbox(character)
    canvas = Image.new("L", (int(right - left) + 8, int(bottom - top) + 8))
    ImageDraw.Draw(canvas).text((4 - left, 4 - top), character, font=font, fill=255)
    ink = canvas.crop(canvas.getbbox())
    scale = extent / max(ink.size)
    size = (max(1, round(ink.width * scale)), max(1, round(ink.height * scale)))
    return ink.resize(size, Image.Resampling.BOX if scale < 1 else Image.Resampling.BICUBIC)


@lru_cache(maxsize=128)
def typeface_at(typeface: str, pixels: int) -> ImageFont.FreeTypeFont:
    """Return a typeface at an em of `pixels`."""
    return ImageFont.truetype(str(_file(typeface)), pixels)


@cache
def _covered(typeface: str) -> frozenset[int]:
    return frozenset(FT2Font(str(_file(typeface))).get_charmap())


def _file(typeface: str) -> Path:
    path = Path(matplotlib.get_data_path()) / "fonts" / "ttf" / f"{typeface}.ttf"
    if not path.is_file():
        raise MissingCapabilityError(
            f"matplotlib's typeface {typeface} is not at {path}; "
            "install matplotlib from PyPI (pip install --force-reinstall matplotlib)"
        )
    return path
