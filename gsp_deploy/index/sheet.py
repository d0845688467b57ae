"""Contact sheets of search results: a row a query, as one PNG or one self-contained HTML file."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from gsp_deploy.errors import DataError, UsageError
from gsp_deploy.files import replacing, write_text
from gsp_deploy.index.gallery import Hit
from gsp_deploy.preprocessing import decode_image

TILE = 128
GAP = 8
CAPTION = 30
INK, QUIET, ACCENT = (30, 30, 30), (120, 120, 120), (20, 90, 200)
SUFFIXES = (".png", ".html")

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont

_PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><title>{title}</title>
<style>
body {{ font: 13px/1.4 system-ui, sans-serif; margin: 24px; color: #1e1e1e; background: #fff }}
.row {{ display: flex; gap: 10px; overflow-x: auto; padding: 10px 3px; border-top: 1px solid #ddd }}
figure {{ margin: 0; width: {tile}px; flex: none }}
img, .gone {{ width: {tile}px; height: {tile}px; object-fit: contain; background: #f4f4f4 }}
.gone {{ display: flex; align-items: center; justify-content: center; color: #777 }}
.query img {{ outline: 3px solid #145ac8 }}
figcaption {{ overflow-wrap: anywhere; color: #555 }} b {{ color: #1e1e1e }}
</style>
<h1>{title}</h1>
{rows}
</html>
"""


@dataclass(frozen=True)
class Row:
    """A query's file and what it found."""

    query: str
    hits: Sequence[Hit]


def check_sheet_path(path: Path) -> None:
    """Raise `UsageError` for a sheet that is neither PNG nor HTML, before any work is done."""
    if path.suffix.lower() not in SUFFIXES:
        raise UsageError(f"expected a sheet named {' or '.join(SUFFIXES)}, got {path.name!r}")


def write_sheet(rows: Sequence[Row], path: Path, title: str) -> None:
    """Write the results with their pictures; a file that is gone by now leaves a note."""
    check_sheet_path(path)
    if path.suffix.lower() == ".html":
        body = "\n".join(_html_row(row) for row in rows)
        write_text(path, _PAGE.format(title=html.escape(title), tile=TILE, rows=body))
        return
    sheet = draw_sheet(rows)
    with replacing(path) as temporary:
        sheet.save(temporary, "PNG")


def draw_sheet(rows: Sequence[Row]) -> Image.Image:
    """Return the results as one picture: the query framed, then its hits with their cosines."""
    columns = 1 + max((len(row.hits) for row in rows), default=0)
    size = (GAP + columns * (TILE + GAP), GAP + len(rows) * (TILE + CAPTION + GAP))
    sheet = Image.new("RGB", size, "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(size=11)
    for r, row in enumerate(rows):
        top = GAP + r * (TILE + CAPTION + GAP)
        captions = [("query", ACCENT), *((f"{hit.cosine:.3f}", INK) for hit in row.hits)]
        names = [row.query, *(hit.file for hit in row.hits)]
        for c, (name, (caption, ink)) in enumerate(zip(names, captions, strict=True)):
            left = GAP + c * (TILE + GAP)
            _paste(sheet, draw, font, name, left, top)
            draw.text((left, top + TILE + 2), caption, fill=ink, font=font)
            short = _fitted(Path(name).name, font)
            draw.text((left, top + TILE + 15), short, fill=QUIET, font=font)
        draw.rectangle((GAP - 3, top - 3, GAP + TILE + 2, top + TILE + 2), outline=ACCENT, width=3)
    return sheet


def _paste(
    sheet: Image.Image, draw: ImageDraw.ImageDraw, font: Font,
    name: str, left: int, top: int,
) -> None:  # fmt: skip
    thumbnail = _thumbnail(name)
    if thumbnail is None:
        draw.rectangle((left, top, left + TILE - 1, top + TILE - 1), fill=(244, 244, 244))
        draw.text((left + 8, top + TILE // 2 - 6), "cannot be read", fill=QUIET, font=font)
        return
    offset = ((TILE - thumbnail.width) // 2, (TILE - thumbnail.height) // 2)
    sheet.paste(thumbnail, (left + offset[0], top + offset[1]))


def _thumbnail(name: str) -> Image.Image | None:
    try:
        image = decode_image(name)
    except DataError:
        return None
    scale = TILE / max(image.size)
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    return image.resize(size, Image.Resampling.BICUBIC)


def _html_row(row: Row) -> str:
    figures = [_figure(row.query, "query", "query")]
    figures += [_figure(hit.file, f"{hit.cosine:.3f}", "hit") for hit in row.hits]
    return f'<div class="row">{"".join(figures)}</div>'


def _figure(name: str, caption: str, kind: str) -> str:
    thumbnail = _thumbnail(name)
    picture = '<div class="gone">cannot be read</div>'
    if thumbnail is not None:
        stream = io.BytesIO()
        thumbnail.save(stream, "JPEG", quality=85)
        data = base64.b64encode(stream.getvalue()).decode()
        picture = f'<img alt="" src="data:image/jpeg;base64,{data}">'
    shown = html.escape(Path(name).name)
    full = html.escape(name, quote=True)
    return (
        f'<figure class="{kind}" title="{full}">{picture}'
        f"<figcaption><b>{caption}</b> {shown}</figcaption></figure>"
    )


def _fitted(text: str, font: Font) -> str:
    """Return a name cut in the middle where it is wider than a tile."""
    if font.getlength(text) <= TILE:
        return text
    keep = len(text) // 2
    while keep > 1 and font.getlength(f"{text[:keep]}…{text[-keep:]}") > TILE:
        keep -= 1
    return f"{text[:keep]}…{text[-keep:]}"
