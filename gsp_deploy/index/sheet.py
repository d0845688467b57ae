"""Contact sheets of search results: a row a query, as one PNG or one self-contained HTML file."""

from __future__ import annotations

import base64
import html
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from gsp_deploy.errors import DataError, UsageError
from gsp_deploy.files import replacing, write_text
from gsp_deploy.index.gallery import Hit
from gsp_deploy.preprocessing import decode_image

TILE = 128
GAP = 8
CAPTION = 30
LINE = TILE + CAPTION + GAP
MOST_COLUMNS = 10  # of hits; more go on below
INK, QUIET, ACCENT = (30, 30, 30), (120, 120, 120), (20, 90, 200)
SUFFIXES = (".png", ".html")

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont

_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{title}</title>
<style>
:root {{ --paper: #f7f7f5; --ink: #1d2126; --soft: #5b646e; --faint: #dfe2e6; --mark: #006eb8 }}
@media (prefers-color-scheme: dark) {{
  :root {{ --paper: #14171b; --ink: #e6e9ed; --soft: #9ca6b0; --faint: #353c45; --mark: #5fb0f2 }}
}}
body {{ font: 13px/1.4 system-ui, sans-serif; margin: 1.5rem 1rem; color: var(--ink);
  background: var(--paper) }}
h1 {{ font-size: 1.4rem; margin: 0 0 1rem }}
.row {{ display: grid; grid-template-columns: repeat(auto-fill, minmax(104px, 1fr));
  gap: 14px 12px; padding: 16px 0; border-top: 1px solid var(--faint) }}
figure {{ margin: 0; min-width: 0; max-width: {tile}px }}
img, .gone {{ display: block; width: 100%; aspect-ratio: 1; object-fit: contain;
  background: var(--faint); border-radius: 3px; margin-bottom: 4px }}
.gone {{ display: flex; align-items: center; justify-content: center; color: var(--soft) }}
.query img {{ outline: 3px solid var(--mark); outline-offset: 1px }}
.query b {{ color: var(--mark) }}
figcaption {{ overflow-wrap: anywhere; color: var(--soft) }}
b {{ color: var(--ink); font-variant-numeric: tabular-nums }}
</style>
</head>
<body>
<h1>{title}</h1>
{rows}
</body>
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
    """Return the results as one picture: the query framed, then its hits with their cosines.

    A row of more hits than `MOST_COLUMNS` goes on below, beside its query.
    """
    hits = min(max((len(row.hits) for row in rows), default=0), MOST_COLUMNS)
    lines = [max(1, math.ceil(len(row.hits) / max(hits, 1))) for row in rows]
    size = (GAP + (1 + hits) * (TILE + GAP), GAP + sum(lines) * LINE)
    sheet = Image.new("RGB", size, "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(size=11)
    for above, row in zip(accumulate(lines, initial=0), rows, strict=False):
        top = GAP + above * LINE
        _draw_tile(sheet, draw, font, row.query, ("query", ACCENT), (GAP, top))
        draw.rectangle((GAP - 3, top - 3, GAP + TILE + 2, top + TILE + 2), outline=ACCENT, width=3)
        for place, hit in enumerate(row.hits):
            line, column = divmod(place, hits)
            corner = (GAP + (1 + column) * (TILE + GAP), top + line * LINE)
            _draw_tile(sheet, draw, font, hit.file, (f"{hit.cosine:.3f}", INK), corner)
    return sheet


def _draw_tile(
    sheet: Image.Image, draw: ImageDraw.ImageDraw, font: Font,
    name: str, caption: tuple[str, tuple[int, int, int]], corner: tuple[int, int],
) -> None:  # fmt: skip
    """Draw one picture with its caption and its name, its left upper corner at `corner`."""
    left, top = corner
    _paste(sheet, draw, font, name, left, top)
    draw.text((left, top + TILE + 2), caption[0], fill=caption[1], font=font)
    draw.text((left, top + TILE + 15), _fitted(_shown(name), font), fill=QUIET, font=font)


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
        alt = html.escape(_shown(name), quote=True)
        picture = f'<img alt="{alt}" src="data:image/jpeg;base64,{data}">'
    shown = html.escape(_shown(name).replace("/", "/\u200b"))
    full = html.escape(name, quote=True)
    return (
        f'<figure class="{kind}" title="{full}">{picture}'
        f"<figcaption><b>{caption}</b> {shown}</figcaption></figure>"
    )


def _shown(name: str) -> str:
    """Return a file's name with its folder's, which is its class in a folder per class."""
    return "/".join(Path(name).parts[-2:])


def _fitted(text: str, font: Font) -> str:
    """Return a name cut in the middle where it is wider than a tile."""
    if font.getlength(text) <= TILE:
        return text
    keep = len(text) // 2
    while keep > 1 and font.getlength(f"{text[:keep]}…{text[-keep:]}") > TILE:
        keep -= 1
    return f"{text[:keep]}…{text[-keep:]}"
