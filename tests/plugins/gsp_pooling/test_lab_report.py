"""The lab on the emulated kernel, and the thresholds that are chosen from its report."""

from __future__ import annotations

import importlib.util
import itertools
import json
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from .building import KERNEL, build_lab, needs_compiler

SCRIPT = KERNEL / "lab" / "thresholds.py"


@pytest.fixture(scope="module")
def thresholds() -> ModuleType:
    spec = importlib.util.spec_from_file_location("thresholds", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["thresholds"] = module
    spec.loader.exec_module(module)
    return module


@pytest.mark.slow
@needs_compiler
def test_the_lab_runs_whole_on_the_emulation(tmp_path: Path, thresholds: ModuleType) -> None:
    lab = build_lab(tmp_path)
    report = tmp_path / "lab.json"
    done = subprocess.run([lab, "--quick", "--json", report], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr
    found = json.loads(report.read_text())
    rows = found["correctness"]
    assert all(row["right"] and row["same_twice"] for row in rows)
    for key, values in (
        ("plan", {"block", "cluster", "split"}),
        ("input", {"float32", "float16", "bfloat16"}),
        ("output", {"float32", "float16", "bfloat16"}),
        ("layout", {"first", "last"}),
        ("pooling", {"gap", "gmp", "gem"}),
        ("misaligned", {False, True}),
        ("captured", {False, True}),
    ):
        assert {row[key] for row in rows} == values, key
    for key in ("captured", "misaligned"):  # clusters among them
        assert {row["plan"] for row in rows if row[key]} == {"block", "cluster", "split"}, key
    timings = found["timings"]
    assert {row["l2"] for row in timings} == {"flushed", "warm"}
    assert sum(row["chosen"] for row in timings) == len(timings) / 3
    # 9 locations of 16 values and 3 prototypes in, 16 values and 9 weights out, at 64 GB/s
    (first,) = {row["floor_us"] for row in timings if row["input"] == "float32"}
    assert first == pytest.approx((4 * 9 * 16 + 4 * 3 * 16 + 4 * (16 + 9)) / 64e3, rel=1e-4)
    assert len(thresholds.shapes_of(found)) == 6


def report_of(microseconds) -> dict:
    """Return a report in which a function of plan, batch and work gives the times."""
    rows = [
        {
            "plan": plan, "solver": "certified", "input": "float16", "layout": "last",
            "batch": batch, "locations": locations, "embedding_dim": 512, "prototypes": 64,
            "l2": "flushed", "p50_us": microseconds(plan, batch, locations * 512 * 64),
        }
        for plan, batch, locations in itertools.product(
            ("block", "cluster", "split"), (1, 8, 64, 256), (49, 196, 784)
        )
    ]  # fmt: skip
    return {"device": {"name": "a GPU", "multiprocessors": 132}, "timings": rows}


def test_the_thresholds_follow_the_measurements(thresholds: ModuleType) -> None:
    small, large = 196 * 512 * 64, 784 * 512 * 64

    def microseconds(plan: str, batch: int, work: int) -> float:
        base = {"block": 0.5 + work / 1e6, "cluster": 1 + work / 1e7, "split": 2.5 + work / 4e7}
        return base[plan]

    report = report_of(microseconds)
    shapes = thresholds.shapes_of(report)
    found = thresholds.best_thresholds(shapes, 132)
    assert (found.small, found.large) == (small, large)
    assert found.cost(shapes, 132) < thresholds.Thresholds(large, small).cost(shapes, 132)


def test_they_are_written_into_a_copy_of_the_source(tmp_path: Path, thresholds: ModuleType) -> None:
    folder = tmp_path / "gsp_pooling"
    (folder / "lab").mkdir(parents=True)
    shutil.copy(SCRIPT, folder / "lab")
    shutil.copy(KERNEL / "gsp_pooling_params.cpp", folder)
    report = tmp_path / "proof.json"
    found = report_of(lambda plan, batch, work: 1 + (plan != "block"))
    report.write_text(json.dumps({"findings": [{"data": {}}, {"data": found}]}))
    command = [sys.executable, folder / "lab" / "thresholds.py", report, "--write"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "1.000 times the best plan's time" in done.stdout
    source = (folder / "gsp_pooling_params.cpp").read_text()
    assert "constexpr int64_t kSmallImage = 1'000'000'000;" in source
    assert "constexpr int64_t kLargeImage = 1'605'632;" in source


@pytest.mark.parametrize("text", ["", "{}", '{"timings": [], "device": {"multiprocessors": 1}}'])
def test_a_report_without_timings_is_one_line(text: str, tmp_path: Path) -> None:
    report = tmp_path / "lab.json"
    report.write_text(text)
    done = subprocess.run([sys.executable, SCRIPT, report], capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr.startswith("thresholds: ")
    assert done.stderr.count("\n") == 1
