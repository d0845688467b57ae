"""Draw contact sheets of search results: one row per query, as a PNG or a single HTML file."""

from __future__ import annotations

import html
import math
from collections.abc import Sequence
from importlib.resources import files
from itertools import accumulate
from pathlib import Path
from string import Template

from PIL import Image, ImageDraw, ImageFont

from gsp_deploy.base.files import write_text
from gsp_deploy.errors import DataError, UsageError
from gsp_deploy.images.data_uri import data_uri
from gsp_deploy.images.files import name_with_folder
from gsp_deploy.images.marked import save_picture
from gsp_deploy.images.preprocessing import decode_image
from gsp_deploy.retrieval.hits import Row

TILE = 128
GAP = 8
CAPTION = 30
LINE = TILE + CAPTION + GAP
MOST_COLUMNS = 10  # of hits; further hits continue on the next line
INK, QUIET, ACCENT = (30, 30, 30), (120, 120, 120), (20, 90, 200)
SUFFIXES = (".png", ".html")

Colour = tuple[int, int, int]
Font = ImageFont.FreeTypeFont | ImageFont.ImageFont


def check_sheet_path(path: Path) -> None:
    """Raise `UsageError` unless the sheet is PNG or HTML, so that a command can check first."""
    if path.suffix.lower() not in SUFFIXES:
        raise UsageError(f"expected a sheet named {' or '.join(SUFFIXES)}, got {path.name!r}")


def write_sheet(rows: Sequence[Row], path: Path, title: str) -> None:
    """Write the results with their pictures; an image that cannot be read becomes a note."""
    check_sheet_path(path)
    if path.suffix.lower() == ".html":
        write_text(path, html_sheet(rows, title))
        return
    save_picture(draw_sheet(rows), path)


def html_sheet(rows: Sequence[Row], title: str) -> str:
    """Return the results as one HTML page."""
    page = files("gsp_deploy.retrieval").joinpath("sheet.html").read_text(encoding="utf-8")
    body = "\n".join(_html_row(row) for row in rows)
    return Template(page).substitute(title=html.escape(title), tile=TILE, rows=body)


def draw_sheet(rows: Sequence[Row]) -> Image.Image:
    """Return the results as one picture: the query framed, then its hits with their cosines.

    If a query has more than `MOST_COLUMNS` hits, they continue on the next line.
    """
    hits = min(max((len(row.hits) for row in rows), default=0), MOST_COLUMNS)
    lines = [max(1, math.ceil(len(row.hits) / max(hits, 1))) for row in rows]
    paper = _Paper((GAP + (1 + hits) * (TILE + GAP), GAP + sum(lines) * LINE))
    for above, row in zip(accumulate(lines, initial=0), rows, strict=False):
        top = GAP + above * LINE
        paper.draw_tile(row.query, "query", ACCENT, (GAP, top))
        paper.draw_frame((GAP, top))
        for place, hit in enumerate(row.hits):
            line, column = divmod(place, hits)
            corner = (GAP + (1 + column) * (TILE + GAP), top + line * LINE)
            paper.draw_tile(hit.file, f"{hit.cosine:.3f}", INK, corner)
    return paper.picture


class _Paper:
    """A picture with its pen and its font."""

    def __init__(self, size: tuple[int, int]) -> None:
        self.picture = Image.new("RGB", size, "white")
        self._pen = ImageDraw.Draw(self.picture)
        self._font = ImageFont.load_default(size=11)

    def draw_tile(self, file: str, caption: str, colour: Colour, corner: tuple[int, int]) -> None:
        """Draw one image with its caption and its name, its left upper corner at `corner`."""
        left, top = corner
        self._draw_image(file, left, top)
        self._write((left, top + TILE + 2), caption, colour)
        self._write((left, top + TILE + 15), _fitted(name_with_folder(file), self._font), QUIET)

    def draw_frame(self, corner: tuple[int, int]) -> None:
        """Draw a frame around the tile at `corner`."""
        left, top = corner
        box = (left - 3, top - 3, left + TILE + 2, top + TILE + 2)
        self._pen.rectangle(box, outline=ACCENT, width=3)

    def _draw_image(self, file: str, left: int, top: int) -> None:
        thumbnail = _thumbnail(file)
        if thumbnail is None:
            self._pen.rectangle((left, top, left + TILE - 1, top + TILE - 1), fill=(244, 244, 244))
            self._write((left + 8, top + TILE // 2 - 6), "cannot be read", QUIET)
            return
        across, down = (TILE - thumbnail.width) // 2, (TILE - thumbnail.height) // 2
        self.picture.paste(thumbnail, (left + across, top + down))

    def _write(self, corner: tuple[int, int], text: str, colour: Colour) -> None:
        self._pen.text(corner, text, fill=colour, font=self._font)


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
    shown = html.escape(name_with_folder(name))
    picture = '<div class="gone">cannot be read</div>'
    if thumbnail is not None:
        picture = f'<img alt="{shown}" src="{data_uri(thumbnail)}">'
    broken = shown.replace("/", "/\u200b")
    return (
        f'<figure class="{kind}" title="{html.escape(name)}">{picture}'
        f"<figcaption><b>{caption}</b> {broken}</figcaption></figure>"
    )


def _fitted(text: str, font: Font) -> str:
    """Return a name, shortened in the middle if it is wider than a tile."""
    if font.getlength(text) <= TILE:
        return text
    keep = len(text) // 2
    while keep > 1 and font.getlength(f"{text[:keep]}…{text[-keep:]}") > TILE:
        keep -= 1
    return f"{text[:keep]}…{text[-keep:]}"
