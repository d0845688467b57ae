"""The retrieval benchmark runs, continues where it stopped, and computes its figures correctly."""

from __future__ import annotations

import importlib
import json
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from PIL import Image

from gsp_deploy.data import open_dataset
from gsp_deploy.layers.losses import ZeroShotLoss
from gsp_deploy.training import StepRecord
from gsp_deploy.training.records import Silence

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
    gains = figures.differences(runs, "cluttered", ("gsp", "gap"), "map_at_r")
    assert gains == pytest.approx([0.05, 0.1])
    assert figures.differences(runs, "cluttered", ("gsp", "gem"), "map_at_r") == []
    table = figures.results_table(
        figures.by_head([{**record, "recall_at_1": 0.5} for record in records]), "gsp"
    )
    assert table.splitlines()[2].endswith("| +0.0000 ± 0.0000 | -0.0750 ± 0.3177 |")


def test_each_head_gets_the_rate_that_validates_best_in_its_own_trials(script) -> None:
    found = {("gap", 0.003): 0.2, ("gap", 0.006): 0.1, ("gsp", 0.003): 0.3, ("gsp", 0.006): 0.4}
    trials = [
        {"head": head, "rate": rate, "validation": {"recall_at_1": value, "map_at_r": 1 - value}}
        for (head, rate), value in found.items()
    ]
    assert script("retrieval_long").best_rates(trials) == {"gap": 0.003, "gsp": 0.006}
    assert script("retrieval_figures").trials_table(trials).splitlines() == [
        "| head | 0.003 | 0.006 |",
        "|---|---|---|",
        "| gap | 0.2000 | 0.1000 |",
        "| gsp | 0.3000 | 0.4000 |",
    ]


def test_heads_of_the_long_study_differ_in_nothing_but_head_and_rate(
    script, tmp_path: Path
) -> None:
    long = script("retrieval_long")
    recipes = {
        head: long.load_recipe(
            SCRIPTS.parent / "models" / "glyphs-small.toml",
            long.settings(long.Run(tmp_path, head, 1, 0.003, is_trial=False, quick=False)),
        )
        for head in long.HEADS
    }
    assert {recipe.run.steps for recipe in recipes.values()} == {1500}
    assert {recipe.sampler.images_per_class for recipe in recipes.values()} == {2}
    differ = {head: set(r.differences(recipes["gap"])) for head, r in recipes.items()}
    assert differ == {
        "gap": set(),
        "gem": {"head.kind"},
        "gap+gmp": {"head.kind"},
        "gsp": {"head.kind", "zsr.enabled"},
        "gsp+zsr": {"head.kind"},
    }


def test_a_run_that_a_signal_stops_is_no_run_to_judge(
    script, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class StopsAtOnce(Silence):
        def stepped(self, record: StepRecord) -> None:
            signal.raise_signal(signal.SIGTERM)

    kept, retrieval = script("kept_runs"), script("retrieval")
    recipe = retrieval.load_recipe(
        retrieval.MODELS / "glyphs-quick.toml", ["run.epochs=3", "sampler.batch_size=16"]
    )
    dataset = open_dataset("glyphs:size=48,scale=0.5,images_per_class=4,train_classes=8")
    monkeypatch.setattr(kept, "train", partial(kept.train, observer=StopsAtOnce()))
    with pytest.raises(InterruptedError, match="stopped after step 1; the same command"):
        kept.trained(recipe, tmp_path / "run", dataset)
    monkeypatch.undo()
    assert kept.trained(recipe, tmp_path / "run", dataset).steps == 3


def test_the_controls_of_zsr_lose_its_direction_or_its_labels(script) -> None:
    zsr = script("zsr")
    torch.manual_seed(0)
    loss = ZeroShotLoss(8, 12)
    attributes, labels = torch.randn(24, 16), torch.arange(12).repeat_interleave(2)
    gradients = {}
    for arm, wrapped in {"zsr": loss, **{n: c(loss) for n, c in zsr.CONTROLS.items()}}.items():
        seen = attributes.clone().requires_grad_()
        wrapped(seen, labels).backward()
        gradients[arm] = seen.grad.flatten()
    sizes = {arm: float(g.norm()) for arm, g in gradients.items()}
    assert sizes["noise"] == pytest.approx(sizes["zsr"], rel=1e-5)
    cosine = torch.cosine_similarity(gradients["noise"], gradients["zsr"], dim=0)
    assert abs(float(cosine)) < 0.3
    # Labels in another order matter only where they differ.
    shuffled, same = zsr.ShuffledLabels(loss), torch.zeros(24, dtype=torch.long)
    assert shuffled(attributes, same) == loss(attributes, same)
    assert shuffled(attributes, labels) != loss(attributes, labels)


def test_the_table_of_zsr_takes_the_seeds_that_every_arm_has(script) -> None:
    zsr = script("zsr")
    records = [
        {"arm": arm, "classes": 16, "ridge": ridge, "seed": seed,
         "validation": {"recall_at_1": value + seed}}
        for arm, ridge, value in (
            ("none", 0.0, 0.1), ("zsr", 0.05, 0.2), ("shuffled", 0.05, 0.3), ("noise", 0.05, 0.4)
        )
        for seed in ((0, 1) if arm == "none" else (0,))
    ]  # fmt: skip
    assert zsr.table(records).splitlines()[2] == "| 16 | 0.05 | 1 | 0.100 | 0.200 | 0.300 | 0.400 |"


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
