"""Two processes that share a batch compute the same as one with the whole batch."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from gsp_deploy import load_checkpoint
from gsp_deploy.training import load_recipe, train
from gsp_deploy.training.distributed import World
from gsp_deploy.training.run import TrainingRun

from .tiny import patches, recipe_with

CASES = {
    "proxies and zero-shot loss": {},
    "memory and miner": {
        "loss": {"kind": "multi-similarity"},
        "miner": {"kind": "multi-similarity"},
        "xbm": {"size": 16},
    },
    "clipping": {"loss": {"kind": "triplet"}, "optimiser": {"lr": 0.003, "clip_norm": 0.01}},
}

CHILD = """
import sys, torch
sys.path.insert(0, sys.argv[1])
from gsp_deploy.training.distributed import processes
from training.test_distributed import CASES, first_steps
with processes() as world:
    found = {name: first_steps(changes, world) for name, changes in CASES.items()}
    torch.save(found, f"{sys.argv[2]}/{world.rank}.pt")
"""


def first_steps(changes, world, count=2):
    """Return losses and gradients of two steps. Batch norm is frozen: its statistics would be
    those of a process's own share."""
    recipe = recipe_with(
        model={
            "backbone": "small_cnn_s8",
            "backbone_options": {"width": 4},
            "freeze_batch_norm": True,
        },
        run__steps=count,
        **changes,
    )
    images = patches().train
    run = TrainingRun(recipe, images, images.subset([]), torch.device("cpu"), world)
    found = []
    for step, batch in enumerate(run.batches(0)):
        record = run.step(step, batch, 0)
        named = [*run.model.named_parameters(), *run.objective.named_parameters()]
        gradients = {name: p.grad.clone() for name, p in named if p.grad is not None}
        found.append((record.loss, record.gradient_norm, gradients))
    return found


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def accelerate_launch(*program: object) -> None:
    """Start two processes as a user does. (`--multi_gpu` is accelerate's word for torchrun.)"""
    command = [
        sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2",
        "--num_machines", "1", "--mixed_precision", "no", "--dynamo_backend", "no",
        "--main_process_port", str(free_port()), *map(str, program),
    ]  # fmt: skip
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    ran = subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=240, check=False
    )
    assert ran.returncode == 0, ran.stderr


@pytest.fixture(scope="module")
def two_processes(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ranks")
    script = folder / "child.py"
    script.write_text(CHILD)
    accelerate_launch(script, Path(__file__).parents[1], folder)
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in range(2)]


@pytest.mark.parametrize("case", CASES)
def test_losses_and_gradients_are_those_of_the_whole_batch(two_processes, case):
    alone = first_steps(CASES[case], World())
    for rank in range(2):
        for expected, found in zip(alone, two_processes[rank][case], strict=True):
            assert found[0] == pytest.approx(expected[0], rel=1e-5)
            assert found[1] == pytest.approx(expected[1], rel=1e-4)
            assert found[2].keys() == expected[2].keys()
            for name, gradient in expected[2].items():
                torch.testing.assert_close(found[2][name], gradient, rtol=1e-3, atol=1e-6)
    for one, other in zip(two_processes[0][case], two_processes[1][case], strict=True):
        assert all(torch.equal(one[2][name], other[2][name]) for name in one[2])


def test_the_train_command_runs_under_accelerate(tmp_path):
    """Two processes: one speaks and writes, and the run ends as that of one process does."""
    recipe = tmp_path / "recipe.toml"
    spec = "glyphs:clutter=0,size=32,scale=0.6,images_per_class=4,train_classes=8,test_classes=2"
    recipe.write_text(
        recipe_with(
            data={"spec": spec, "validation_fraction": 0.25},
            model__freeze_batch_norm=True,
            run__steps=3,
        ).to_toml()
    )
    accelerate_launch(
        "-m", "gsp_deploy_cli.main", "train", recipe, "-o", tmp_path / "two", "--json"
    )
    train(load_recipe(recipe), tmp_path / "one")
    alone, together = (
        load_checkpoint(tmp_path / name / "last.safetensors").state_dict()
        for name in ("one", "two")
    )
    for name, weight in alone.items():
        torch.testing.assert_close(together[name], weight, rtol=1e-3, atol=1e-5)
    assert (tmp_path / "two" / "log.csv").read_text().count("\n") > 1
