"""The sections show the figures of the documents."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path

import pytest

from gsp_deploy.report import read_documents
from gsp_deploy.report.content import Section, Table
from gsp_deploy.report.sections import all_sections

from .conftest import made_up_gpu_result


def sections_of(folder: Path) -> dict[str, Section]:
    return {section.title: section for section in all_sections(read_documents([folder]), None)}


def cell(table: Table, row: str, column: str) -> str:
    found = next(cells for cells in table.rows if cells[0] == row)
    return found[table.columns.index(column)]


def test_engines_are_shown_in_stages(engine_folder: Path) -> None:
    table, costs = sections_of(engine_folder)["Stages on the GPU"].tables
    graphs = {row[2]: row for row in table.rows}
    assert set(graphs) == {"on", "off"}
    made_up = made_up_gpu_result()
    for name, key in (("on", "with_graphs"), ("off", "without_graphs")):
        stages = [made_up[key][stage]["p50"] for stage in made_up[key]]
        assert [float(text) for text in graphs[name][3:]] == pytest.approx(stages)
    assert cell(costs, "model.engine", "× GAP") == "1.250"


def test_engine_layers_are_shown_by_part_and_by_type(engine_folder: Path) -> None:
    by_part, by_type = sections_of(engine_folder)["Engine layers"].tables
    assert by_part.rows[0] == ("head: newton step 1", "0.2500", "25.0%")
    assert sum(float(row[1]) for row in by_part.rows) == pytest.approx(1)
    assert by_part.rows[-1][0] == "14 more"
    assert by_type.rows == (("model.engine", "fp32", "network", "10"),)


def test_a_run_that_was_throttled_is_marked(engine_folder: Path) -> None:
    (table,) = sections_of(engine_folder)["Without pause"].tables
    run = "model.engine"
    assert table.bad == {0}
    assert cell(table, run, "held down by") == "thermal slowdown 25%"
    assert cell(table, run, "MHz") == "600 to 900"
    assert cell(table, run, "°C") == "40 to 80"


def test_what_was_not_measured_has_no_section(deployed: Path) -> None:
    found = sections_of(deployed)
    assert not {"Stages on the GPU", "Engine layers", "Without pause"} & set(found)
    assert {"At a glance", "Parity", "Retrieval", "Latency", "Solver", "Environment"} <= set(found)


def test_two_checks_of_one_model_name_their_references(deployed: Path, tmp_path: Path) -> None:
    check = json.loads((deployed / "check.json").read_text())
    for k in range(2):
        check["reference"]["path"] = f"/models/reference-{k}.onnx"
        (tmp_path / f"check-{k}.json").write_text(json.dumps(check))
    _, figures, *_ = sections_of(tmp_path)["Parity"].tables
    assert [row[0] for row in figures.rows] == [
        f"model.onnx, against reference-{k}.onnx" for k in range(2)
    ]


def test_distributions_are_the_checks(deployed: Path) -> None:
    check = json.loads((deployed / "check.json").read_text())
    figures = sections_of(deployed)["Parity"].tables[1]
    expected = check["cosine_distance"]
    for column, key in (("median", "median"), ("p99", "p99"), ("worst", "max")):
        value = float(cell(figures, "model.onnx", column))
        assert value == pytest.approx(expected[key], rel=0.06)


def test_an_evaluation_is_shown_with_its_ranks(deployed: Path, tmp_path: Path) -> None:
    metrics = {"recall_at_1": 0.5, "recall_at_2": 0.75, "map_at_r": 0.25}
    document = {
        "document": "evaluate", "version": 1, "dataset": "glyphs", "images": 8, "classes": 2,
        "models": {"model.onnx": metrics}, "concatenated": None,
    }  # fmt: skip
    (tmp_path / "evaluate.json").write_text(json.dumps(document))
    section = sections_of(tmp_path)["Retrieval"]
    (table,) = section.tables
    assert table.columns == ("model", "R@1", "R@2", "MAP@R")
    assert table.rows == (("model.onnx", "50.00", "75.00", "25.00"),)
    assert [block.kind for block in section.blocks] == ["table", "chart"]


def test_an_infinite_error_is_shown(many: Callable[[int], Path]) -> None:
    folder = many(1)
    check = json.loads((folder / "check-00.json").read_text())
    check["cosine_distance"].update(max=None, p99=None)
    (folder / "check-00.json").write_text(json.dumps(check))
    figures = sections_of(folder)["Parity"].tables[1]
    assert cell(figures, "model-00.onnx", "worst") == f"{math.inf}"


def test_a_model_that_fails_one_of_two_checks_fails_at_a_glance(
    many: Callable[[int], Path],
) -> None:
    folder = many(1)
    check = json.loads((folder / "check-00.json").read_text())
    check["reference"]["path"] = "/models/another.onnx"
    check["passed"] = check["gates"][0]["passed"] = False
    check["cosine_distance"]["max"] = 0.5
    for name in ("check-a.json", "check-z.json"):  # whichever is read first
        (folder / name).write_text(json.dumps(check))
        (table,) = sections_of(folder)["At a glance"].tables
        (folder / name).unlink()
        assert cell(table, "model-00.onnx", "gates") == "FAIL"
        assert cell(table, "model-00.onnx", "1 − cos, worst") == "5.0e-01"
        assert table.bad == {0}


def test_notes_of_the_benchmark_are_below_its_figures(deployed: Path, tmp_path: Path) -> None:
    bench = json.loads((deployed / "bench.json").read_text())
    bench["notes"] = ["the machine was busy"]
    (tmp_path / "bench.json").write_text(json.dumps(bench))
    assert sections_of(tmp_path)["Latency"].tables[0].note == "the machine was busy."
