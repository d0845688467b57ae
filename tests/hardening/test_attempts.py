"""Bad input to every command: one line, the right exit code, nothing left, nothing overwritten."""

from __future__ import annotations

from pathlib import Path

import pytest

from .attempts import ATTEMPTS, Attempt, attempt


@pytest.mark.parametrize("bad", ATTEMPTS, ids=lambda bad: f"{bad.what}: {bad.command[:60]}")
def test_bad_input_gets_its_line(bad: Attempt, workshop: Path, tmp_path: Path, tried) -> None:
    outcome = attempt(bad, workshop, tmp_path)
    assert not outcome.faults, (outcome.faults, outcome.ran)
    there = f" ({bad.there} is there)" if bad.there else ""
    said = outcome.ran.error or outcome.ran.err.strip() or "done"
    command = " ".join(bad.command.split("|"))
    tried(f"Commands: {bad.what}", f"`{command}`{there}", f"{outcome.ran.code}: {said}")
