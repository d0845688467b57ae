"""The HTML page and its Markdown twin: complete, self-contained, and equal to the documents."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from gsp_deploy import open_session
from gsp_deploy.images.files import find_images, read_images
from gsp_deploy.report import html_page, markdown_page, read_documents, take_pictures

VOID = {"meta", "img", "br", "link", "input", "hr"}


class Balance(HTMLParser):
    """Fails on tags closed in the wrong order; collects ids, links, headings, bare images."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []
        self.addresses: list[str] = []
        self.headings: list[int] = []
        self.nameless: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in VOID:
            self.open.append(tag)
        if re.fullmatch(r"h\d", tag):
            self.headings.append(int(tag[1]))
        if tag == "img" and not dict(attrs).get("alt"):
            self.nameless.append(dict(attrs).get("src") or "")
        for name, value in attrs:
            if name == "id":
                self.ids.append(value or "")
            if name in ("src", "href", "xlink:href"):
                self.addresses.append(value or "")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def parsed(page: str) -> Balance:
    parser = Balance()
    parser.feed(page)
    assert not parser.open
    return parser


@pytest.mark.parametrize("count", [1, 20])
def test_the_page_is_whole_and_needs_nothing_from_outside(
    count: int, many: Callable[[int], Path]
) -> None:
    page = html_page("A title <&>", read_documents([many(count)]))
    found = parsed(page)
    assert page.startswith('<!doctype html>\n<html lang="en">')
    assert page.count("<title>A title") == 1
    assert len(found.ids) == len(set(found.ids))
    assert found.headings[0] == 1
    assert found.headings.count(1) == 1
    assert all(after <= before + 1 for before, after in pairwise(found.headings))
    assert all(address.startswith(("#", "data:")) for address in found.addresses)
    assert not re.search(r"url\((?!#)|@import|<script", page)
    assert "A title &lt;&amp;&gt;" in page
    assert page.count("</svg>model-00.onnx</th>") >= 4  # with its mark, in a table of each kind
    anchors = {address for address in found.addresses if address.startswith("#")}
    assert anchors <= {f"#{name}" for name in found.ids}
    assert "every parity gate passed" in page


def charts_of(page: str) -> list[str]:
    """Return the charts of a page, without the small marks in tables and legends."""
    return re.findall(r'<svg viewBox="[^"]+" role="img".*?</svg>', page, re.DOTALL)


def test_charts_use_the_pages_colours(many: Callable[[int], Path]) -> None:
    page = html_page("t", read_documents([many(2)]))
    defined = set(re.findall(r"(--\w+):", page))
    charts = charts_of(page)
    assert charts
    for chart in charts:
        assert "var(--a1)" in chart
        assert set(re.findall(r"var\((--\w+)\)", chart)) <= defined
        assert set(re.findall(r"#[0-9a-f]{6}\b", chart)) <= {"#ffffff"}


def test_an_artifact_has_its_colour_in_every_chart(many: Callable[[int], Path]) -> None:
    folder = many(3)
    (folder / "check-00.json").unlink()  # the other artifacts keep their checks
    for chart in charts_of(html_page("t", read_documents([folder]))):
        tips = re.findall(r"<g><title>model-02.onnx: [^<]*</title>.*?</g>", chart, re.DOTALL)
        assert all("var(--a3)" in tip and "var(--a1)" not in tip for tip in tips)
        assert "model-02.onnx" not in chart or "var(--a3)" in chart


def test_a_failed_gate_comes_first(deployed: Path, tmp_path: Path) -> None:
    document = json.loads((deployed / "check.json").read_text())
    document["passed"] = document["gates"][1]["passed"] = False
    document["gates"][1]["value"] = None  # infinite, as JSON cannot say
    (tmp_path / "check.json").write_text(json.dumps(document))
    documents = read_documents([tmp_path])
    page = html_page("t", documents)
    assert page.index("parity gates failed") < page.index("<h2>")
    assert f"FAIL: {document['gates'][1]['title']}" in page
    assert "**parity gates failed: model.onnx**" in markdown_page("t", documents)


def test_markdown_tables_have_as_many_cells_as_columns(many: Callable[[int], Path]) -> None:
    text = markdown_page("a | b", read_documents([many(3)]))
    assert text.startswith("# a \\| b\n")
    for table in re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE):
        widths = {len(re.findall(r"(?<!\\)\|", line)) for line in table.splitlines()}
        assert len(widths) == 1


def test_the_twin_has_every_table_of_the_page(engine_folder: Path) -> None:
    documents = read_documents([engine_folder])
    page, text = html_page("t", documents), markdown_page("t", documents)
    titles = re.findall(r"<h2>(.*?)</h2>", page)
    assert titles == re.findall(r"^## (.*)$", text, re.MULTILINE)
    assert {"Stages on the GPU", "Engine layers", "Without pause", "Environment"} <= set(titles)
    assert page.count("<tbody>") == len(re.findall(r"^\|[-:|]+\|$", text, re.MULTILINE))


def test_pictures_show_which_neighbours_changed(deployed: Path, tmp_path: Path) -> None:
    draw = np.random.default_rng(0)
    for k in range(12):
        folder = tmp_path / f"class {k // 4}"
        folder.mkdir(exist_ok=True)
        pixels = draw.integers(0, 256, (32, 32, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{k}.png")
    with (
        open_session(deployed / "model.safetensors") as first,
        open_session(deployed / "model.onnx") as second,
    ):
        batch, _ = read_images(find_images([tmp_path]), first.info.require_preprocessing())
        same = take_pictures(first, second, batch)
    assert (same.changed, same.queries) == (0, 12)
    assert len(same.strips) == len(same.panels) == 6
    assert not any(strip.changed for strip in same.strips)
    assert {tile.same_class for strip in same.strips for tile in strip.before} == {True, False}
    assert same.convergence is not None
    newton = dict(same.convergence.newton)
    assert newton[12] < 1e-12 < newton[1]
    assert dict(same.convergence.fixed_point)[1] > newton[2]
    documents = read_documents([deployed])
    page, text = html_page("t", documents, same), markdown_page("t", documents, same)
    assert not parsed(page).nameless
    for words in ("0 of 12 images have another order", "Weight error by solver steps, in figures"):
        assert words in page
        assert words in text
    for panel in same.panels:
        assert 0 <= panel.least <= 1 <= panel.greatest
        assert 0 < panel.half_in <= 0.5
        assert panel.name in text
