"""Whole runs: their results, their files, and how they stop."""

from __future__ import annotations

import pytest
import torch

from gsp_deploy import load_checkpoint
from gsp_deploy.checkpoint import read_checkpoint
from gsp_deploy.errors import ConfigError, DataError, GspDeployError, UsageError
from gsp_deploy.training import DivergenceError
from gsp_deploy.training.loop import _split
from gsp_deploy.training.run import TrainingRun
from gsp_deploy.training.state import RunFolder, load_state

from .runs import Heard, contents, rows, trained, weights_of
from .tiny import patches, recipe_with


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
    """Two of eight classes a fold, in the order of the classes, with any share."""
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
    with pytest.raises(UsageError, match=r"2 to 8 folds.*got 9"):
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
    with pytest.raises(ConfigError, match="use the same backbone"):
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
    assert heard.plan.notes[-1] == "no TensorBoard log: the package tensorboard is not installed"


@pytest.mark.parametrize(
    ("changes", "is_noted"),
    [({}, True), ({"zsr__enabled": False}, False), ({"sampler__images_per_class": 0}, False)],
)
def test_too_few_classes_for_the_zero_shot_loss_are_noted(tmp_path, changes, is_noted) -> None:
    heard = Heard()
    trained(recipe_with(run__steps=1, **changes), tmp_path / "run", observer=heard)
    noted = [note for note in heard.plan.notes if "the zero-shot loss acted as noise" in note]
    assert [note.startswith("a batch has 2 classes; with 16 ") for note in noted] == [
        True
    ] * is_noted
