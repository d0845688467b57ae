"""Every figure of parity and latency on the page equals the one in its document."""

from __future__ import annotations

import json
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from gsp_deploy.report import html_page, read_documents

COUNT = 3
LATENCY = {
    "p50": "latency.p50",
    "p90": "latency.p90",
    "p99": "latency.p99",
    "max": "latency.max",
    "images/s": "images_per_second",
    "× GAP": "pooling_cost.ratio",
    "GAP p50": "pooling_cost.twin.p50",
}
PARITY = {
    "1 − cos": "cosine_distance.max",
    "weights / spread": "weights.relative_to_spread.max",
    "images": "images",
}


class Tables(HTMLParser):
    """Collects the tables of a page: the title of their section, and their rows."""

    def __init__(self) -> None:
        super().__init__()
        self.tables: list[tuple[str, list[list[str]]]] = []
        self.title, self.within = "", ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "h2":
            self.title = ""
        elif tag == "table":
            self.tables.append((self.title, []))
        elif tag == "tr":
            self.tables[-1][1].append([])
        elif tag in ("td", "th"):
            self.tables[-1][1][-1].append("")
        if tag in ("h2", "td", "th"):
            self.within = tag

    def handle_endtag(self, tag: str) -> None:
        if tag == self.within:
            self.within = ""

    def handle_data(self, data: str) -> None:
        if self.within == "h2":
            self.title += data
        elif self.within:
            self.tables[-1][1][-1][-1] += data


@pytest.fixture
def folder(many: Callable[[int], Path]) -> Path:
    """Return documents of several artifacts with different figures everywhere."""
    folder = many(COUNT)
    bench = json.loads((folder / "bench.json").read_text())
    for k, model in enumerate(bench["models"]):
        model["batches"] = [scaled(result, 1.5**k) for result in model["batches"]]
    (folder / "bench.json").write_text(json.dumps(bench))
    for k in range(COUNT):
        path = folder / f"check-{k:02}.json"
        check = json.loads(path.read_text())
        for part in ("cosine_distance", "weights"):
            check[part] = scaled(check[part], 1.5**k)
        path.write_text(json.dumps({**check, "images": 12 + k}))
    return folder


def scaled(value: Any, factor: float) -> Any:
    """Return a document with every figure multiplied, except whole numbers."""
    if isinstance(value, dict):
        return {name: scaled(part, factor) for name, part in value.items()}
    return value * factor if isinstance(value, float) else value


def at(document: dict[str, Any], path: str) -> Any:
    for name in path.split("."):
        document = document[name]
    return document


def assert_shows(text: str, value: float) -> None:
    """Compare a figure with a value, to half of its last digit."""
    digits, _, power = text.replace(",", "").partition("e")
    decimals = len(digits.partition(".")[2])
    half = 0.5 * 10.0 ** (int(power or 0) - decimals)
    assert float(text.replace(",", "")) == pytest.approx(value, rel=1e-9, abs=half * (1 + 1e-6))


def tables_of(folder: Path, section: str) -> list[list[list[str]]]:
    reader = Tables()
    reader.feed(html_page("t", read_documents([folder])))
    return [rows for title, rows in reader.tables if title == section]


def test_latencies_are_the_benchmarks(folder: Path) -> None:
    (columns, *rows), *_ = tables_of(folder, "Latency")
    bench = json.loads((folder / "bench.json").read_text())
    expected = [(model["name"], result) for model in bench["models"] for result in model["batches"]]
    assert [row[:2] for row in rows] == [[name, str(r["batch"])] for name, r in expected]
    for row, (_, result) in zip(rows, expected, strict=True):
        for column, path in LATENCY.items():
            assert_shows(row[columns.index(column)], at(result, path))


def test_errors_are_the_checks(folder: Path) -> None:
    (columns, *rows), *_ = tables_of(folder, "Parity")
    assert [row[0] for row in rows] == [f"model-{k:02}.onnx" for k in range(COUNT)]
    for k, row in enumerate(rows):
        check = json.loads((folder / f"check-{k:02}.json").read_text())
        for column, path in PARITY.items():
            assert_shows(row[columns.index(column)], at(check, path))
        flips = check["retrieval"]
        assert row[columns.index("flips")] == f"{flips['top1_flips']} of {flips['queries']}"


def test_gates_are_the_checks(folder: Path) -> None:
    tables = tables_of(folder, "Parity")[-COUNT:]
    for k, (_, *rows) in enumerate(tables):
        gates = json.loads((folder / f"check-{k:02}.json").read_text())["gates"]
        for (title, measured, limit, result), gate in zip(rows, gates, strict=True):
            assert title == gate["title"]
            assert float(measured) == pytest.approx(gate["value"], rel=0.005)
            assert float(limit[2:]) == pytest.approx(gate["limit"], rel=0.005)
            assert result == ("pass" if gate["passed"] else "FAIL")


def test_the_glance_is_the_smallest_batch(folder: Path) -> None:
    ((columns, *rows),) = tables_of(folder, "At a glance")
    bench = json.loads((folder / "bench.json").read_text())
    for row, model in zip(rows, bench["models"], strict=True):
        first = model["batches"][0]
        assert row[0] == model["name"]
        assert_shows(row[columns.index(f"p50 ms, batch {first['batch']}")], first["latency"]["p50"])
        assert_shows(row[columns.index("× GAP")], first["pooling_cost"]["ratio"])
