"""The commands for trtexec, whose defaults differ between 10 and 11."""

from __future__ import annotations

import shlex
from dataclasses import replace
from pathlib import Path

import pytest

from gsp_deploy.benchmark import BenchmarkSettings
from gsp_deploy.benchmark.gpu.trtexec import Measured, trtexec_command

MEASURED = Measured(Path("my model.engine"), "images", (8, 3, 224, 224), True, 1)
SETTINGS = BenchmarkSettings((8,), repeats=200, device="cuda:2", wait="spin")
VERSION_WORDS = {
    "--useCudaGraph", "--noCudaGraph", "--useSpinWait", "--noSpinWait", "--includeDataTransfers",
}  # fmt: skip


@pytest.mark.parametrize(
    ("major", "graphs", "wait", "expected"),
    [
        (10, True, "spin", {"--useCudaGraph", "--useSpinWait"}),
        (10, False, "block", set()),
        (11, True, "spin", {"--includeDataTransfers"}),
        (11, False, "block", {"--includeDataTransfers", "--noCudaGraph", "--noSpinWait"}),
    ],
)
def test_a_default_of_one_version_is_an_option_for_the_other(major, graphs, wait, expected):
    settings = replace(SETTINGS, cuda_graphs=graphs, wait=wait)
    words = shlex.split(trtexec_command(MEASURED, settings, major))
    assert VERSION_WORDS & set(words) == expected


def test_a_command_sets_everything_that_was_measured() -> None:
    words = shlex.split(trtexec_command(MEASURED, SETTINGS, 10))
    assert words[:4] == [
        "trtexec",
        "--loadEngine=my model.engine",
        "--shapes=images:8x3x224x224",
        "--useProfile=1",
    ]
    assert {"--device=2", "--duration=0", "--iterations=200", "--exposeDMA"} <= set(words)


def test_static_engines_plugins_and_durations() -> None:
    static = replace(MEASURED, is_dynamic=False, plugins=(Path("libgsp.so"),))
    words = shlex.split(trtexec_command(static, replace(SETTINGS, seconds=2.5), 11))
    assert not any(word.startswith(("--shapes", "--useProfile")) for word in words)
    assert {"--dynamicPlugins=libgsp.so", "--duration=2.5", "--iterations=10"} <= set(words)
