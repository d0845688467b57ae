"""Parameter groups, their rates, and the schedules."""

from __future__ import annotations

import math

import pytest
import torch

from gsp_deploy.training.distributed import World
from gsp_deploy.training.optimisation import is_drop, rate_factor, set_learning_rate
from gsp_deploy.training.run import TrainingRun
from gsp_deploy.training.sections import PlateauScheduleSection

from .tiny import patches, recipe_with


def run_of(**changes):
    images = patches().train
    recipe = recipe_with(**changes)
    return TrainingRun(recipe, images, images.subset([]), torch.device("cpu"), World())


def group_of(run, parameter):
    (found,) = (
        group
        for group in run.optimiser.param_groups
        if any(member is parameter for member in group["params"])
    )
    return found


def test_each_part_has_its_rate_and_every_parameter_is_trained_once():
    run = run_of(
        optimiser={"lr": 0.1, "head_lr": 2.0, "prototype_lr": 3.0, "proxy_lr": 5.0},
        gsp={"num_prototypes": 4, "pooling": "gem"},
    )
    set_learning_rate(run.optimiser, 0.1)
    head = run.model.head
    parts = {
        head.embed.weight: 0.2,
        head.embed.bias: 0.2,
        head.power: 0.2,
        head.prototypes: 0.3,
        run.objective.metric.proxies: 0.5,
        run.objective.zsr.class_embeddings: 0.5,
        next(run.model.backbone.parameters()): 0.1,
    }
    for parameter, rate in parts.items():
        assert group_of(run, parameter)["lr"] == pytest.approx(rate)
    trained = [p for group in run.optimiser.param_groups for p in group["params"]]
    everything = [*run.model.parameters(), *run.objective.parameters()]
    assert {id(p) for p in trained} == {id(p) for p in everything}
    assert len(trained) == len(everything)


def test_vectors_and_scalars_do_not_decay():
    run = run_of(optimiser={"lr": 0.1, "weight_decay": 0.02})
    for parameter in run.model.parameters():
        expected = 0.02 if parameter.ndim > 1 else 0.0
        assert group_of(run, parameter)["weight_decay"] == expected


@pytest.mark.parametrize("kind", ["adam", "adamw", "sgd"])
def test_every_optimiser_descends(kind):
    run = run_of(optimiser={"kind": kind, "lr": 0.01 if kind == "sgd" else 0.003}, run__steps=40)
    losses = [run.step(k, batch, 0).loss for k, batch in enumerate(run.batches(0))]
    assert sum(losses[-5:]) < sum(losses[:5])


def test_clipping_bounds_the_gradient():
    run = run_of(optimiser={"lr": 0.1, "kind": "sgd", "clip_norm": 1e-3, "weight_decay": 0.0})
    record = run.step(0, next(run.batches(0)), 0)
    assert record.gradient_norm > 0.1
    gradients = [p.grad.norm() for group in run.optimiser.param_groups for p in group["params"]]
    assert torch.stack(gradients).norm() == pytest.approx(1e-3, rel=1e-3)


def test_decay_then_norm_then_value():
    """The authors' order: decay is clipped with the gradient, then each entry is."""
    settings = {"lr": 0.1, "kind": "sgd", "weight_decay": 1e3, "clip_norm": 1.0, "clip_value": 1e-3}
    run = run_of(optimiser={**settings, "decay_before_clipping": True})
    weight = run.model.head.embed.weight
    before = weight.detach().clone()
    run.step(0, next(run.batches(0)), 0)
    assert group_of(run, weight)["weight_decay"] == 0
    gradients = [p.grad for group in run.optimiser.param_groups for p in group["params"]]
    assert max(float(g.abs().max()) for g in gradients) == pytest.approx(1e-3)
    large = before.abs() > before.abs().median()  # decay of 1e3 decides these signs
    assert (weight.grad.sign() == before.sign())[large].all()


def test_a_frozen_stage_leaves_the_backbone_and_then_trains_it():
    run = run_of(schedule={"kind": "constant", "frozen": 2}, run__steps=4)
    before = {name: t.clone() for name, t in run.model.state_dict().items()}
    changed = []
    for step, batch in enumerate(run.batches(0)):
        run.step(step, batch, 0)
        after = run.model.state_dict()
        names = [name for name in before if not torch.equal(before[name], after[name])]
        changed.append({name.partition(".")[0] for name in names})
    assert changed == [{"head"}, {"head"}, {"head", "backbone"}, {"head", "backbone"}]


@pytest.mark.parametrize(
    ("settings", "scores", "drops"),
    [
        ({"patience": 2}, [5, 4, 4, 4, 4, 6, 5], [3, 5]),
        ({"patience": 2, "min_gain": 0.5}, [5, 5.4, 5.4, 6, 6.2, 6.4], [3, 6]),
        ({"patience": 1, "pause": 2}, [5, 4, 4, 4, 4, 4], [2, 4, 6]),
        ({"patience": 2, "pause": 3}, [5, 4, 4, 4, 4, 4, 4, 4], [3, 7]),
    ],
)
def test_the_plateau_is_keras(settings, scores, drops):
    """When Keras 2's ReduceLROnPlateau lowers the rate, worked out from its source."""
    schedule, seen = PlateauScheduleSection(kind="plateau", **settings), {}
    found = [n for n, score in enumerate(scores, 1) if is_drop(schedule, seen, score)]
    assert found == drops


def test_the_rate_of_a_plateau_has_a_floor():
    schedule = PlateauScheduleSection(kind="plateau", factor=0.5, final=0.1)
    assert [rate_factor(schedule, 0, 9, drops) for drops in (0, 3, 4)] == [1.0, 0.125, 0.1]


def test_frozen_batch_norm_keeps_statistics_scale_and_shift():
    run = run_of(model={"backbone": "small_cnn_s8", "freeze_batch_norm": True}, run__steps=3)
    before = {name: t.clone() for name, t in run.model.state_dict().items()}
    for step, batch in enumerate(run.batches(0)):
        run.step(step, batch, 0)
    run.embed(run.training)  # validation in between must not thaw them
    run.step(3, next(run.batches(0)), 0)
    moved = {n for n, t in run.model.state_dict().items() if not torch.equal(t, before[n])}
    assert moved
    assert not any("norm" in name for name in moved)


def schedule(**settings):
    return recipe_with(schedule=settings).schedule


def test_warm_up_then_cosine():
    cosine = schedule(kind="cosine", warmup=4, final=0.1)
    factors = [rate_factor(cosine, step, 104, 0) for step in range(105)]
    assert factors[:4] == pytest.approx([0.2, 0.4, 0.6, 0.8])
    assert factors[4] == 1.0
    assert factors[54] == pytest.approx(0.55)
    assert factors[29] == pytest.approx(0.1 + 0.9 * 0.5 * (1 + math.cos(math.pi / 4)))
    assert factors[104] == pytest.approx(0.1)


def test_plateau_falls_with_every_drop_and_constant_never():
    plateau = schedule(kind="plateau", factor=0.5)
    assert [rate_factor(plateau, 9, 100, drops) for drops in range(3)] == [1.0, 0.5, 0.25]
    constant = schedule(kind="constant", warmup=1)
    assert [rate_factor(constant, step, 100, 7) for step in range(3)] == [0.5, 1.0, 1.0]
