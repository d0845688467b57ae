"""Whole runs: learning, stopping, refusing, and continuing with the same bytes."""

from __future__ import annotations

import csv
import io
import signal
import zipfile
from pathlib import Path

import pytest
import torch

from gsp_deploy import load_checkpoint
from gsp_deploy.checkpoint import read_checkpoint
from gsp_deploy.errors import CheckpointError, ConfigError, DataError, GspDeployError, UsageError
from gsp_deploy.training import DivergenceError, train
from gsp_deploy.training.loop import _split
from gsp_deploy.training.records import Silence
from gsp_deploy.training.run import TrainingRun
from gsp_deploy.training.state import RunFolder, load_state

from .tiny import patches, recipe_with

FILES = ("best.safetensors", "last.safetensors", "log.csv", "recipe.toml")


class Heard(Silence):
    """Keeps what it hears, and can interrupt the run after a step."""

    def __init__(self, interrupt_after: int | None = None) -> None:
        self.plan, self.records, self.evaluations = None, [], []
        self.interrupt_after = interrupt_after

    def started(self, plan):
        self.plan = plan

    def stepped(self, record):
        self.records.append(record)
        if record.step == self.interrupt_after:
            signal.raise_signal(signal.SIGINT)

    def evaluated(self, step, metrics, is_best):
        self.evaluations.append((step, metrics, is_best))


def trained(recipe, folder, **options):
    options.setdefault("dataset", patches())
    return train(recipe, folder, **options)


def rows(folder):
    with (folder / "log.csv").open() as stream:
        return list(csv.DictReader(stream))


def contents(folder: Path):
    return {name: (folder / name).read_bytes() for name in FILES}


def weights_of(path):
    return load_checkpoint(path).state_dict()


def test_a_tiny_set_is_learnt(tmp_path):
    """Eight colours: from near chance among the noise to a perfect validation."""
    recipe = recipe_with(run__steps=60, run__evaluate_every=20, schedule={"kind": "cosine"})
    heard = Heard()
    result = trained(recipe, tmp_path / "run", observer=heard, command="gsp-deploy train x")
    assert result.steps == result.total_steps == 60
    assert result.best_metrics["recall_at_1"] > 0.95
    losses = [record.metric_loss for record in heard.records]
    assert sum(losses[-5:]) < 0.5 * sum(losses[:5])
    assert heard.plan.training_classes == 6
    assert heard.plan.validation_classes == 2


def test_what_a_run_leaves_behind(tmp_path):
    recipe = recipe_with(
        run={**recipe_with().run.model_dump(exclude_none=True), "log_every": 3, "steps": 8},
        provenance={"license": "MIT", "notes": "a test"},
    )
    result = trained(recipe, tmp_path / "run", command="gsp-deploy train x")
    folder = RunFolder(tmp_path / "run")
    assert [row["step"] for row in rows(folder.path)] == ["2", "3", "4", "6", "8"]
    assert rows(folder.path)[1]["map_at_r"] == ""
    assert float(rows(folder.path)[4]["map_at_r"]) == result.last_metrics["map_at_r"]
    provenance = read_checkpoint(folder.best).metadata.provenance
    assert (provenance.license, provenance.dataset) == ("MIT", "patches")
    assert provenance.command == "gsp-deploy train x"
    assert provenance.metrics == result.best_metrics
    assert "a test; step" in provenance.notes
    assert load_checkpoint(folder.last).config.head.num_prototypes == 4
    assert not list(folder.path.glob(".*"))  # no temporary files


def test_folds_hold_out_every_class_once(tmp_path):
    """Two of eight classes a fold, in the order of the classes, whatever the share says."""
    held_out = []
    for k in range(1, 5):
        heard = Heard()
        recipe = recipe_with(
            data={"spec": "patches", "fold": f"{k}/4", "validation_fraction": 0.0},
            run__steps=1,
            run__patience=3,
        )
        trained(recipe, tmp_path / str(k), observer=heard)
        assert (heard.plan.training_classes, heard.plan.validation_classes) == (6, 2)
        held_out.append(_split(recipe, patches())[1].class_names)
    assert [name for names in held_out for name in names] == list(patches().train.class_names)
    with pytest.raises(UsageError, match=r"8 classes\), got 9"):
        trained(recipe_with(data__fold="1/9"), tmp_path / "none")


def test_the_best_checkpoint_is_the_best_and_the_last_the_last(tmp_path):
    recipe = recipe_with(run__steps=12, run__evaluate_every=2, optimiser__lr=0.05)
    heard = Heard()
    result = trained(recipe, tmp_path / "run", observer=heard)
    scores = [metrics["map_at_r"] for _, metrics, _ in heard.evaluations]
    assert result.best_metrics["map_at_r"] == max(scores)
    assert result.best_step == heard.evaluations[scores.index(max(scores))][0]
    state = load_state(tmp_path / "run" / "state.pt")
    for path, tensors in (("best", state.best.weights), ("last", state.tensors["model"])):
        found = weights_of(tmp_path / "run" / f"{path}.safetensors")
        assert all(torch.equal(found[name], tensor) for name, tensor in tensors.items())


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
    with pytest.raises(UsageError, match=r"begun with another optimiser\.lr"):
        trained(recipe_with(optimiser__lr=0.5), tmp_path / "run", resume=True)
    with pytest.raises(UsageError, match="begun with other images"):
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
        largest = max(archive.infolist(), key=lambda record: record.file_size)
        weights = archive.read(largest)
    flipped = bytearray(whole)
    flipped[whole.index(weights) + len(weights) // 2] ^= 1
    path.write_bytes(flipped)
    with pytest.raises(CheckpointError, match="not as it was saved"):
        trained(recipe_with(), tmp_path / "run", resume=True)
    torch.save({"format": 1, "attack": Path}, path)
    with pytest.raises(CheckpointError, match="start over with --force"):
        trained(recipe_with(), tmp_path / "run", resume=True)
    torch.save({"format": 1, "something": "else"}, path)
    with pytest.raises(CheckpointError, match="not the state of a training run"):
        trained(recipe_with(), tmp_path / "run", resume=True)


def test_early_stopping(tmp_path, monkeypatch):
    scores = iter([0.1, 0.3, 0.2, 0.3, 0.9])
    monkeypatch.setattr(
        TrainingRun, "evaluate", lambda self, steps: {"map_at_r": next(scores), "recall_at_1": 0.0}
    )
    recipe = recipe_with(run__steps=50, run__evaluate_every=1, run__patience=2)
    result = trained(recipe, tmp_path / "run")
    assert result.stopped_early
    assert (result.steps, result.best_step) == (4, 2)  # an equal score is no gain
    again = trained(recipe, tmp_path / "run", resume=True)
    assert (again.steps, again.stopped_early) == (4, True)


def test_plateau_lowers_the_rate(tmp_path, monkeypatch):
    scores = iter([0.5, 0.4, 0.4, 0.6, 0.1, 0.1, 0.1, 0.1, 0.1])
    monkeypatch.setattr(
        TrainingRun, "evaluate", lambda self, steps: {"map_at_r": next(scores), "recall_at_1": 0.0}
    )
    heard = Heard()
    recipe = recipe_with(
        run__steps=9,
        run__evaluate_every=1,
        schedule={"kind": "plateau", "patience": 2, "factor": 0.5},
        optimiser__lr=0.08,
    )
    trained(recipe, tmp_path / "run", observer=heard)
    rates = [record.learning_rate for record in heard.records]
    assert rates == pytest.approx([0.08] * 3 + [0.04] * 3 + [0.02] * 2 + [0.01])


def test_a_loss_that_is_not_finite_stops_before_it_reaches_a_weight(tmp_path, monkeypatch):
    step = TrainingRun.step

    def poisoned(self, number, batch, drops):
        if number == 2:
            with torch.no_grad():
                self.objective.metric.proxies[0, 0] = float("nan")
        return step(self, number, batch, drops)

    monkeypatch.setattr(TrainingRun, "step", poisoned)
    with pytest.raises(DivergenceError) as caught:
        trained(recipe_with(run__save_every=1), tmp_path / "run")
    message = str(caught.value)
    assert "the loss became nan at step 3, first in loss metric.proxies" in message
    assert "try a lower optimiser.lr" in message
    assert isinstance(caught.value, GspDeployError)
    monkeypatch.setattr(TrainingRun, "step", step)
    trained(recipe_with(run__save_every=1), tmp_path / "whole")
    trained(recipe_with(run__save_every=1), tmp_path / "run", resume=True)
    assert contents(tmp_path / "run") == contents(tmp_path / "whole")


def test_a_runaway_learning_rate_is_caught(tmp_path):
    recipe = recipe_with(
        optimiser={"kind": "sgd", "lr": 1e18}, head__normalize=False, run__steps=50
    )
    with pytest.raises(DivergenceError, match=r"at step \d+.*learning rate 1e\+18"):
        trained(recipe, tmp_path / "run")


def test_starting_from_another_run(tmp_path):
    """The backbone is taken over, and of a head of another kind what has the same shape."""
    trained(recipe_with(head__kind="gap"), tmp_path / "first")
    start = str(tmp_path / "first" / "last.safetensors")
    rate = {"lr": 1e-12}
    trained(recipe_with(model__pretrained=start, optimiser=rate), tmp_path / "second")
    before, after = weights_of(start), weights_of(tmp_path / "second" / "last.safetensors")
    for name in ("backbone.units.3.conv.weight", "head.embed.weight"):
        torch.testing.assert_close(after[name], before[name], rtol=1e-5, atol=1e-7)
    other = {"backbone_options": {"width": 6}, "pretrained": start}
    with pytest.raises(ConfigError, match="must be the same"):
        trained(recipe_with(model={"backbone": "small_cnn_s8", **other}), tmp_path / "third")


def test_without_held_out_classes_there_is_a_last_checkpoint_only(tmp_path):
    result = trained(recipe_with(data__validation_fraction=0.0), tmp_path / "run")
    assert (result.best_step, result.best_metrics) == (None, {})
    assert (tmp_path / "run" / "last.safetensors").exists()
    assert not (tmp_path / "run" / "best.safetensors").exists()


def test_data_that_cannot_be_trained_or_validated_on(tmp_path):
    dataset = patches()
    empty = type(dataset)("empty", dataset.train.subset([]), dataset.train)
    with pytest.raises(DataError, match="no training part"):
        trained(recipe_with(), tmp_path / "run", dataset=empty)
    recipe = recipe_with(sampler={"batch_size": 4, "images_per_class": 0})
    with pytest.raises(DataError, match="none of the 2 held-out classes has two images"):
        trained(recipe, tmp_path / "run", dataset=patches(images_per_class=1))


def test_tensorboard_log_is_written_where_it_is_installed(tmp_path):
    pytest.importorskip("tensorboard")
    trained(recipe_with(run__tensorboard=True), tmp_path / "run")
    assert list((tmp_path / "run" / "tensorboard").glob("events*"))


def test_without_tensorboard_the_run_says_so_and_goes_on(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "torch.utils.tensorboard", None)
    heard = Heard()
    trained(recipe_with(run__tensorboard=True), tmp_path / "run", observer=heard)
    assert heard.plan.notes == ("no TensorBoard log: the package tensorboard is not installed",)
