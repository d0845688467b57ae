"""Bad input to every command: one line, the right exit code, nothing left, nothing overwritten."""

from __future__ import annotations

from pathlib import Path

import pytest

from .attempts import ATTEMPTS, Attempt, attempt


@pytest.mark.parametrize("tried", ATTEMPTS, ids=lambda tried: f"{tried.what}: {tried.command[:60]}")
def test_bad_input_gets_its_line(tried: Attempt, workshop: Path, tmp_path: Path) -> None:
    outcome = attempt(tried, workshop, tmp_path)
    assert not outcome.faults, (outcome.faults, outcome.ran)
