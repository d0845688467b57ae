"""Batch norm at the end of a run: measured again if the run is short, untouched otherwise."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from gsp_deploy import load_checkpoint
from gsp_deploy.training.batch_norm import SETTLING_BATCHES, measure_statistics, unsettled_share

from .runs import Heard, trained
from .tiny import recipe_with


class Network(nn.Module):
    """A convolution and a batch norm behind it, as `EmbeddingModel` names them."""

    def __init__(self, momentum: float | None = 0.1) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(3, 5, 3)
        self.norm = nn.BatchNorm2d(5, momentum=momentum)

    def features(self, images: torch.Tensor) -> torch.Tensor:
        return self.norm(self.convolution(images))


@pytest.mark.parametrize(
    ("momentum", "steps", "share"),
    [(0.1, 5, 0.9**5), (0.1, 43, 0.9**43), (0.1, 44, 0.0), (0.5, 3, 0.125), (None, 1, 0.0)],
)
def test_a_short_run_leaves_a_share_of_the_initial_values(momentum, steps, share) -> None:
    assert unsettled_share(Network(momentum), steps) == pytest.approx(share)


def test_frozen_and_missing_batch_norms_are_settled() -> None:
    assert unsettled_share(Network().eval(), 1) == 0
    assert unsettled_share(nn.Conv2d(3, 4, 1), 1) == 0


def test_the_measured_statistics_are_the_mean_over_the_batches() -> None:
    network, batches = Network(), torch.randn(6, 4, 3, 8, 8)
    network.norm.running_mean.fill_(1e6)  # what no measurement keeps
    measure_statistics(network, iter(batches))
    found = [network.convolution(batch) for batch in batches]
    means = torch.stack([values.mean(dim=(0, 2, 3)) for values in found]).mean(0)
    variances = torch.stack([values.transpose(0, 1).flatten(1).var(1) for values in found]).mean(0)
    torch.testing.assert_close(network.norm.running_mean, means)
    torch.testing.assert_close(network.norm.running_var, variances)
    assert network.norm.momentum == 0.1


def test_a_short_run_ends_with_the_statistics_of_its_final_weights(tmp_path) -> None:
    heard = Heard()
    trained(recipe_with(run__steps=3), tmp_path / "run", observer=heard)
    assert heard.plan.notes[-1] == (
        "after 3 steps, batch norm's statistics are still 73% initial values; they are measured "
        f"again at the end, over {SETTLING_BATCHES} batches"
    )
    model = load_checkpoint(tmp_path / "run" / "last.safetensors")
    norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
    assert norms
    assert {int(norm.num_batches_tracked) for norm in norms} == {SETTLING_BATCHES}


def test_the_last_validation_sees_the_new_statistics(tmp_path) -> None:
    """With one validation, at the end, `best` and `last` are the same."""
    trained(recipe_with(run__steps=3, run__evaluate_every=3), tmp_path / "run")
    best, last = (
        load_checkpoint(tmp_path / "run" / f"{name}.safetensors").state_dict()
        for name in ("best", "last")
    )
    for name, tensor in best.items():
        assert torch.equal(tensor, last[name]), name


def test_an_early_validation_sees_new_statistics_too(tmp_path) -> None:
    """Its weights may stay the best of a long run, or be the last when patience is spent."""
    recipe = recipe_with(run__steps=50, run__evaluate_every=2, run__patience=1)
    trained(recipe, tmp_path / "run")
    for name in ("best", "last"):
        model = load_checkpoint(tmp_path / "run" / f"{name}.safetensors")
        norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
        assert {int(norm.num_batches_tracked) for norm in norms} == {SETTLING_BATCHES}


def test_a_longer_run_keeps_its_running_statistics(tmp_path) -> None:
    heard = Heard()
    trained(recipe_with(run__steps=50, run__evaluate_every=50), tmp_path / "run", observer=heard)
    assert not any("batch norm" in note for note in heard.plan.notes)
    model = load_checkpoint(tmp_path / "run" / "last.safetensors")
    norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
    assert {int(norm.num_batches_tracked) for norm in norms} == {50}


@pytest.mark.slow
def test_repvgg_passes_its_own_check_after_a_few_steps(tmp_path) -> None:
    """Its running statistics after 3 steps made all embeddings alike, and neighbours were noise."""
    pytest.importorskip("timm")
    from gsp_deploy.export import ExportOptions, export_onnx
    from gsp_deploy.parity import compare_sessions
    from gsp_deploy.runtime import open_session

    recipe = recipe_with(
        model={"backbone": "repvgg_a0"},
        preprocessing={"height": 32, "width": 32},
        run__steps=3,
        run__evaluate_every=3,
    )
    trained(recipe, tmp_path / "run")
    checkpoint = tmp_path / "run" / "last.safetensors"
    export_onnx(load_checkpoint(checkpoint), tmp_path / "m.onnx", ExportOptions())
    images = np.random.default_rng(0).integers(0, 256, (24, 32, 32, 3), dtype=np.uint8)
    with open_session(checkpoint) as first, open_session(tmp_path / "m.onnx") as second:
        report = compare_sessions(first, second, images)
        found = first.embed(images)
    assert report.passed, report.gates
    assert np.linalg.norm(found - found.mean(0), axis=1).mean() > 1e-3
