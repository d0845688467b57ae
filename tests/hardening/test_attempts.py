"""Every command answers bad input with one line and its exit code, and leaves all files alone."""

from __future__ import annotations

import collections
from pathlib import Path

import pytest

from gsp_deploy_cli.data import app as data_app
from gsp_deploy_cli.main import COMMANDS

from .attempts import Attempt, attempt
from .corpus import ATTEMPTS

AT_LEAST = 5


@pytest.mark.parametrize("bad", ATTEMPTS, ids=lambda bad: f"{bad.what}: {bad.command[:60]}")
def test_bad_input_gets_its_line(bad: Attempt, workshop: Path, tmp_path: Path, tried) -> None:
    outcome = attempt(bad, workshop, tmp_path)
    assert not outcome.faults, (outcome.faults, outcome.ran)
    there = f" ({bad.there} is there)" if bad.there else ""
    said = outcome.ran.error or outcome.ran.err.strip() or "done"
    command = " ".join(bad.command.split("|"))
    tried(f"Commands: {bad.what}", f"`{command}`{there}", f"{outcome.ran.code}: {said}")


def test_every_command_has_its_bad_inputs() -> None:
    counts = collections.Counter(bad.command.partition("|")[0] for bad in ATTEMPTS if bad.code)
    counts.update(" ".join(bad.command.split("|")[:2]) for bad in ATTEMPTS if bad.code)
    names = {command.__name__.replace("_", "-") for command in COMMANDS}
    names |= {f"data {command.callback.__name__}" for command in data_app.registered_commands}
    names -= {"data list_kinds"}  # it takes nothing
    assert {name for name in names if counts[name] < AT_LEAST} == set()
