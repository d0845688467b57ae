"""Draw a contact sheet of a data set, with one row per class."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from gsp_deploy.data.images import LabelledImages
from gsp_deploy.data.typefaces import typeface_at
from gsp_deploy.errors import DataError, UsageError
from gsp_deploy.images.marked import save_picture

_MARGIN = 4
_CAPTION_PIXELS = 12
_INK = (30, 30, 30)


def contact_sheet(images: LabelledImages, count: int = 64, tile: int = 112) -> Image.Image:
    """Return a picture of about `count` images, one row per class, with equally many per row.

    Classes are spread evenly over the whole list, and images evenly over each class, so the same
    call gives the same sheet. Images are fitted into tiles of `tile` pixels; each row begins with
    the class's name.

    Raises:
        DataError: there is no image to show, or a chosen image cannot be read.
    """
    if not len(images):
        raise DataError("this part has no images to show; choose another part")
    rows = _rows(images, max(1, count))
    columns = max(len(row) for row in rows)
    step, height = tile + _MARGIN, tile + _MARGIN + _CAPTION_PIXELS + 4
    sheet = Image.new("RGB", (columns * step + _MARGIN, len(rows) * height + _MARGIN), "white")
    draw = ImageDraw.Draw(sheet)
    font = typeface_at("DejaVuSans", _CAPTION_PIXELS)
    for r, row in enumerate(rows):
        top = _MARGIN + r * height
        caption = _fitted(images.class_name(row[0]), font, sheet.width - 2 * _MARGIN)
        draw.text((_MARGIN, top), caption, fill=_INK, font=font)
        for c, index in enumerate(row):
            _paste_tile(sheet, images.image(index), _MARGIN + c * step, top + height - step, tile)
    return sheet


def write_contact_sheet(images: LabelledImages, path: Path, count: int = 64) -> None:
    """Write `contact_sheet` as PNG or JPEG. Raises `UsageError` for any other name."""
    if path.suffix.lower() not in (".png", ".jpg", ".jpeg"):
        raise UsageError(f"expected a sheet named .png or .jpg, got {path.name!r}")
    sheet = contact_sheet(images, count)
    save_picture(sheet, path)


def _rows(images: LabelledImages, count: int) -> list[list[int]]:
    """Return the indices to show, one list per class, for a sheet that is as square as possible."""
    members = [np.flatnonzero(images.labels == c) for c in np.unique(images.labels)]
    columns = min(round(np.sqrt(count)) or 1, max(len(m) for m in members))
    shown = _evenly(len(members), -(-count // columns))
    return [members[m][_evenly(len(members[m]), columns)].tolist() for m in shown]


def _evenly(length: int, wanted: int) -> np.ndarray:
    """Return up to `wanted` indices spread evenly over `length`."""
    return np.unique(np.linspace(0, length - 1, min(length, wanted)).round().astype(np.int64))


def _paste_tile(sheet: Image.Image, image: Image.Image, left: int, top: int, tile: int) -> None:
    if max(image.size) != tile:
        scale = tile / max(image.size)
        image = image.resize(
            (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
        )
    sheet.paste(image, (left + (tile - image.width) // 2, top + (tile - image.height) // 2))


def _fitted(text: str, font: ImageFont.FreeTypeFont, width: int) -> str:
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(text + "…") > width:
        text = text[:-1]
    return text + "…"
