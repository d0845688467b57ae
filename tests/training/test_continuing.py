"""A resumed run ends with the same bytes as one that was never stopped."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import pytest
import torch

from gsp_deploy.errors import CheckpointError, UsageError
from gsp_deploy.training.run import TrainingRun

from .runs import Heard, contents, trained
from .tiny import patches, recipe_with

CONTINUED = {
    "proxies and zero-shot loss": {},
    "memory and miner": {
        "loss": {"kind": "multi-similarity"},
        "miner": {"kind": "multi-similarity"},
        "xbm": {"size": 24, "start": 2},
        "augmentation": {"crop_area": [0.5, 1.0], "flip": True, "contrast": 0.2},
    },
    "scaler, plateau, momentum": {
        "run__amp": "fp16",
        "schedule": {"kind": "plateau", "patience": 1, "warmup": 2},
        "optimiser": {"kind": "sgd", "lr": 0.01, "clip_norm": 1.0},
    },
    "dropout in the backbone": {
        "model": {
            "backbone": "resnet10t",
            "backbone_options": {"drop_path_rate": 0.5, "drop_block_rate": 0.1},
        },
        "run__steps": 6,
    },
    "shuffle and prototypes from memory": {
        "sampler": {"batch_size": 8, "images_per_class": 0},
        "prototypes": {"init": "memory", "memory": 12},
        "run__workers": 1,
    },
}


@pytest.mark.parametrize("changes", CONTINUED.values(), ids=CONTINUED)
def test_interrupted_and_continued_runs_end_with_the_same_bytes(tmp_path, changes):
    recipe = recipe_with(**{"run__steps": 9, "run__evaluate_every": 3, **changes})
    total = recipe.run.steps
    trained(recipe, tmp_path / "whole", command="x")
    folder = tmp_path / "pieces"
    for stop in (1, 4, 5):
        result = trained(recipe, folder, command="x", resume=True, observer=Heard(stop))
        assert (result.interrupted, result.steps) == (True, stop)
    result = trained(recipe, folder, command="another", resume=True)
    assert (result.interrupted, result.steps) == (False, total)
    assert contents(folder) == contents(tmp_path / "whole")


@pytest.mark.parametrize("at", range(1, 7))
def test_a_crash_inside_any_step_loses_nothing_that_was_saved(tmp_path, monkeypatch, at):
    """The state is saved every second step; the crash comes after weights have moved."""
    recipe = recipe_with(run__steps=6, run__evaluate_every=3, run__save_every=2, run__log_every=1)
    trained(recipe, tmp_path / "whole")
    step = TrainingRun.step

    def crashing(self, number, batch, drops):
        record = step(self, number, batch, drops)
        if number == at - 1:
            raise RuntimeError("power cut")
        return record

    monkeypatch.setattr(TrainingRun, "step", crashing)
    with pytest.raises(RuntimeError, match="power cut"):
        trained(recipe, tmp_path / "run")
    monkeypatch.setattr(TrainingRun, "step", step)
    trained(recipe, tmp_path / "run", resume=True)
    assert contents(tmp_path / "run") == contents(tmp_path / "whole")


def test_a_finished_run_restores_what_follows_from_its_state(tmp_path):
    recipe = recipe_with()
    trained(recipe, tmp_path / "run")
    before = contents(tmp_path / "run")
    for name in ("best.safetensors", "last.safetensors"):
        (tmp_path / "run" / name).unlink()
    with (tmp_path / "run" / "log.csv").open("a") as log:
        log.write("5,1,0.1,0\n12")  # lines of a killed run, the last cut short
    heard = Heard()
    result = trained(recipe, tmp_path / "run", resume=True, observer=heard)
    assert not heard.records
    assert (result.steps, result.interrupted) == (4, False)
    assert contents(tmp_path / "run") == before


def test_leftovers_of_a_killed_write_are_cleared(tmp_path):
    leftover = tmp_path / "run" / ".state.pt.abcd1234"
    (leftover / "files").mkdir(parents=True)
    (leftover / "files" / "state.pt").write_bytes(b"half")
    (leftover / "lock").touch()  # which nobody holds
    trained(recipe_with(), tmp_path / "run", resume=True)
    assert not leftover.exists()


def test_an_existing_run_is_neither_overwritten_nor_mixed_up(tmp_path):
    trained(recipe_with(), tmp_path / "run")
    (tmp_path / "run" / "mine.txt").write_text("keep")
    with pytest.raises(UsageError, match="not empty; pass --resume"):
        trained(recipe_with(), tmp_path / "run")
    with pytest.raises(UsageError, match=r"other settings: optimiser\.lr = .*, not 0\.5; pass the"):
        trained(recipe_with(optimiser__lr=0.5), tmp_path / "run", resume=True)
    other = recipe_with(sampler__batch_size=4096, run__seed=7)
    with pytest.raises(UsageError, match=r"sampler\.batch_size = .*, not 4096; run\.seed = .*, n"):
        trained(other, tmp_path / "run", resume=True)
    with pytest.raises(UsageError, match="began with other images"):
        trained(recipe_with(), tmp_path / "run", resume=True, dataset=patches(images_per_class=7))
    before = contents(tmp_path / "run")
    with pytest.raises(UsageError, match="a batch needs"):
        trained(recipe_with(sampler__batch_size=80), tmp_path / "run", force=True)
    assert contents(tmp_path / "run") == before  # a mistake does not cost the old run
    result = trained(recipe_with(optimiser__lr=0.5), tmp_path / "run", force=True)
    assert result.steps == 4
    assert (tmp_path / "run" / "mine.txt").read_text() == "keep"


def test_a_damaged_or_hostile_state_is_refused(tmp_path):
    trained(recipe_with(), tmp_path / "run")
    path = tmp_path / "run" / "state.pt"
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(CheckpointError, match="cannot be continued"):
        trained(recipe_with(), tmp_path / "run", resume=True)
    with zipfile.ZipFile(io.BytesIO(whole)) as archive:
        tensors = [record for record in archive.infolist() if "/data/" in record.filename]
        largest = max(tensors, key=lambda record: record.file_size)
        weights = archive.read(largest)
    flipped = bytearray(whole)
    flipped[whole.index(weights) + len(weights) // 2] ^= 1
    path.write_bytes(flipped)
    with pytest.raises(CheckpointError, match="changed since it was saved"):
        trained(recipe_with(), tmp_path / "run", resume=True)
    torch.save({"format": 1, "attack": Path}, path)
    with pytest.raises(CheckpointError, match="start over with --force"):
        trained(recipe_with(), tmp_path / "run", resume=True)
    torch.save({"format": 1, "something": "else"}, path)
    with pytest.raises(CheckpointError, match="not the state of a training run"):
        trained(recipe_with(), tmp_path / "run", resume=True)
