"""After SIGKILL at any moment, the resumed run ends with the bytes of an undisturbed one."""

from __future__ import annotations

import itertools
import multiprocessing
import os
import random
import signal
import sys
from pathlib import Path

import pytest

from gsp_deploy.base import files
from gsp_deploy.training import train
from gsp_deploy.training.state import load_state

from .tiny import patches, recipe_with

COMPARED = ("best.safetensors", "last.safetensors", "log.csv", "recipe.toml", "state.pt")
KILLS = 4


def the_recipe(workers=0):
    return recipe_with(
        loss={"kind": "multi-similarity"},
        xbm={"size": 24},
        augmentation={"crop_area": [0.5, 1.0], "flip": True},
        schedule={"kind": "cosine", "warmup": 3},
        run={
            **recipe_with().run.model_dump(exclude_none=True),
            "steps": 30,
            "evaluate_every": 7,
            "save_every": 2,
            "log_every": 1,
            "workers": workers,
        },
    )


def run_to_the_end(folder: str, workers: int) -> None:
    """What the killed processes do.

    Their workers are forked: those of a fork server would outlive the kill.
    """
    multiprocessing.set_start_method("fork", force=True)
    train(the_recipe(workers), folder, dataset=patches(), resume=True, command="x")


def wait_for_a_save(path: Path, child) -> None:
    def written():
        return path.stat().st_mtime_ns if path.exists() else 0

    before = written()
    while written() == before and child.exitcode is None:
        child.join(0.002)


def contents(folder: Path):
    return {name: (folder / name).read_bytes() for name in COMPARED}


@pytest.fixture(scope="module")
def processes():
    """Processes that start in no time: their server has everything imported, and no threads."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["gsp_deploy.training"])
    sys.path.insert(0, str(Path(__file__).parents[1]))  # where a child finds this module
    yield context
    del sys.path[0]


@pytest.mark.parametrize("workers", [0, 1])
def test_killed_at_random_moments(tmp_path, processes, workers):
    train(the_recipe(), tmp_path / "whole", dataset=patches(), command="x")
    folder, moments = tmp_path / "killed", random.Random(workers)
    kills, steps = 0, []
    while kills < KILLS:
        child = processes.Process(target=run_to_the_end, args=(str(folder), workers))
        child.start()
        if kills % 4:  # every fourth time perhaps before anything is saved
            wait_for_a_save(folder / "state.pt", child)
        child.join(moments.uniform(0, 0.15))
        if child.exitcode is not None:
            break  # faster than its killer
        os.kill(child.pid, signal.SIGKILL)
        child.join()
        kills += 1
        state = load_state(folder / "state.pt")
        steps.append(0 if state is None else state.progress.step)
    assert kills, "the child ended before it could be killed"
    assert 0 < steps[-1] < 30
    assert steps == sorted(steps)
    train(the_recipe(workers), folder, dataset=patches(), resume=True)
    expected = contents(tmp_path / "whole")
    found = contents(folder)
    for name in ("recipe.toml", "state.pt"):  # which names the workers; the state holds it too
        assert (found.pop(name) != expected.pop(name)) == bool(workers)
    assert found == expected


class PowerCut(BaseException):
    """Ends the process as far as the code under test is concerned: nothing catches it."""


def test_cut_off_between_any_two_writes(tmp_path, monkeypatch):
    """The power goes after the n-th file was moved into place, and in the middle of the next."""
    recipe = recipe_with(run__steps=6, run__evaluate_every=3, run__save_every=2)
    train(recipe, tmp_path / "whole", dataset=patches())
    replace, flush = os.replace, files.flush_to_disk
    for cut in itertools.count():
        left = itertools.repeat(None, cut)

        def replace_or_die(*paths, left=left):
            if next(left, "none left") == "none left":
                raise PowerCut
            replace(*paths)

        def write_half_or_die(path, left=left):
            flush(path)
            if left.__length_hint__() == 0:
                path.write_bytes(path.read_bytes()[:50])

        folder = tmp_path / f"cut {cut}"
        with monkeypatch.context() as patched:
            patched.setattr(files.os, "replace", replace_or_die)
            patched.setattr(files, "flush_to_disk", write_half_or_die)
            try:
                train(recipe, folder, dataset=patches())
                break  # as many writes as there are
            except PowerCut:
                pass
        train(recipe, folder, dataset=patches(), resume=True)
        assert contents(folder) == contents(tmp_path / "whole")
    assert cut > 8
