"""The retrieval benchmark runs, continues where it stopped, and computes its figures correctly."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from PIL import Image

from gsp_deploy.data import open_dataset

SCRIPTS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch):
    """Return a function that imports a script of benchmarks/; the scripts import each other."""
    monkeypatch.syspath_prepend(str(SCRIPTS))

    def load(name: str) -> ModuleType:
        return importlib.import_module(name)

    return load


def run(name: str, *arguments: str | Path) -> str:
    done = subprocess.run(
        [sys.executable, SCRIPTS / name, *arguments], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_quick_runs_of_every_head_are_kept_and_drawn(tmp_path: Path) -> None:
    results, folder = tmp_path / "retrieval.json", tmp_path / "runs"
    asked = ("--quick", "--jobs", "1", "--folder", folder, "--results", results)
    run("retrieval.py", *asked)
    first = results.read_text()
    records = json.loads(first)["runs"]
    assert [(r["data"], r["head"]) for r in records] == [
        ("uncluttered", "alone"),
        ("cluttered", "gap"),
        ("cluttered", "gsp"),
        ("cluttered", "gsp+zsr"),
        ("cluttered", "gem"),
        ("cluttered", "gap+gmp"),
        ("uncluttered", "gap"),
        ("uncluttered", "gsp+zsr"),
    ]
    assert {r["steps"] for r in records} == {4}
    assert all(0 < r["map_at_r"] <= 1 and 0 <= r["recall_at_1"] <= 1 for r in records)
    # On a second call every run is already done: the same records, times included.
    run("retrieval.py", *asked)
    assert results.read_text() == first

    table = run("retrieval_figures.py", folder, "--results", results, "--figures", tmp_path)
    assert "| cluttered | gsp+zsr | 1 |" in table
    for name in ("retrieval", "retrieval-weights"):
        assert min(Image.open(tmp_path / f"{name}.png").size) > 200


def test_interval_is_that_of_students_t(script) -> None:
    figures = script("retrieval_figures")
    found = figures.interval([1.0, 2.0, 3.0, 4.0, 5.0])
    assert found.mean == 3
    assert found.half == pytest.approx(2.7764 * np.sqrt(2.5 / 5), rel=1e-4)


def test_differences_are_taken_seed_by_seed(script) -> None:
    figures = script("retrieval_figures")
    records = [
        {"data": "cluttered", "head": head, "seed": seed, "map_at_r": value}
        for head, values in (("gap", (0.1, 0.2)), ("gsp", (0.15, 0.3)))
        for seed, value in enumerate(values)
    ]
    runs = figures.by_head(records[::-1])
    assert figures.differences(runs, "cluttered", "gsp", "map_at_r") == pytest.approx([0.05, 0.1])


def test_equal_weights_have_the_objects_area_as_their_mass(script) -> None:
    weights = script("retrieval_weights")
    images = open_dataset("glyphs:size=48,images_per_class=2,train_classes=2,test_classes=3").test
    chosen = weights.some_of_each_class(images, 1)
    assert chosen.tolist() == [0, 2, 4]
    covered = weights.coverage(images, chosen, (6, 6))
    areas = [images.object_mask(int(index)).mean() for index in chosen]
    assert np.allclose(covered.mean(axis=(1, 2)), areas)
    # An object covers a cell by the share of its 8 x 8 pixels.
    assert covered[0, 2, 3] == images.object_mask(0)[16:24, 24:32].mean()
