"""Contact sheets have every picture in its place, and the HTML needs no other file."""

from __future__ import annotations

import base64
import io
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from gsp_deploy.errors import UsageError
from gsp_deploy.retrieval.hits import Hit, Row
from gsp_deploy.retrieval.sheet import (
    CAPTION,
    GAP,
    MOST_COLUMNS,
    TILE,
    draw_sheet,
    write_sheet,
)

COLOURS = {"red": (220, 20, 20), "green": (20, 200, 20), "blue": (20, 20, 220)}


@pytest.fixture
def rows(tmp_path: Path) -> list[Row]:
    """Two queries: red finds green and a file that is gone; blue finds red."""
    for name, colour in COLOURS.items():
        Image.new("RGB", (60, 30), colour).save(tmp_path / f"{name}.png")
    red, green, blue = (str(tmp_path / f"{name}.png") for name in COLOURS)
    gone = str(tmp_path / "<script>gone.png")
    return [Row(red, [Hit(1, 0.9, green), Hit(2, 0.8, gone)]), Row(blue, [Hit(1, 0.7, red)])]


def test_each_picture_is_in_its_place(rows: list[Row]) -> None:
    sheet = np.asarray(draw_sheet(rows))
    assert sheet.shape == (GAP + 2 * (TILE + CAPTION + GAP), GAP + 3 * (TILE + GAP), 3)
    for row, column, name in ((0, 0, "red"), (0, 1, "green"), (1, 0, "blue"), (1, 1, "red")):
        top, left = GAP + row * (TILE + CAPTION + GAP), GAP + column * (TILE + GAP)
        assert tuple(sheet[top + TILE // 2, left + TILE // 2]) == COLOURS[name]
        assert tuple(sheet[top + 8, left + TILE // 2]) == (255, 255, 255)  # 2:1, not stretched
    assert tuple(sheet[GAP + TILE // 4, GAP + 2 * (TILE + GAP) + 4]) == (244, 244, 244)


def test_many_hits_go_on_below(rows: list[Row]) -> None:
    red, green = rows[0].query, rows[0].hits[0].file
    many = Row(red, [Hit(k, 0.5, green) for k in range(MOST_COLUMNS + 2)])
    sheet = np.asarray(draw_sheet([many, rows[1]]))
    step = TILE + CAPTION + GAP
    assert sheet.shape == (GAP + 3 * step, GAP + (MOST_COLUMNS + 1) * (TILE + GAP), 3)
    middle = [GAP + line * step + TILE // 2 for line in range(3)]
    hits = [GAP + (1 + column) * (TILE + GAP) + TILE // 2 for column in range(3)]
    assert tuple(sheet[middle[1], hits[1]]) == COLOURS["green"]
    assert tuple(sheet[middle[1], hits[2]]) == (255, 255, 255)  # after the last
    assert tuple(sheet[middle[2], GAP + TILE // 2]) == COLOURS["blue"]  # the next query


def test_html_holds_everything_itself(rows: list[Row], tmp_path: Path) -> None:
    path = tmp_path / "sheet.html"
    write_sheet(rows, path, "2 queries <of> gallery")
    text = path.read_text(encoding="utf-8")
    assert "<script>" not in text
    assert "&lt;script&gt;gone.png" in text
    assert not re.search(r'(src|href)="(?!data:)', text)
    pictures = re.findall(r"base64,([^\"]+)", text)
    assert len(pictures) == 4
    first = Image.open(io.BytesIO(base64.b64decode(pictures[0])))
    assert np.abs(np.subtract(first.getpixel((TILE // 2, 20)), COLOURS["red"])).max() < 8
    assert text.count("cannot be read") == 1
    assert "0.900" in text
    assert f"{tmp_path.name}/\u200bgreen.png" in text  # the class is the folder's name
    assert "overflow-x" not in text


def test_png_is_written(rows: list[Row], tmp_path: Path) -> None:
    write_sheet(rows, tmp_path / "sheet.PNG", "title")
    assert Image.open(tmp_path / "sheet.PNG").format == "PNG"
    with pytest.raises(UsageError, match=r"\.png or \.html"):
        write_sheet(rows, tmp_path / "sheet.pdf", "title")
