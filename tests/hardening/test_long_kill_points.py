"""`test_kill_points.py` for the commands with the most changes to kill before."""

from __future__ import annotations

from pathlib import Path

import pytest

from .test_kill_points import LONG, kill_before_every_change


@pytest.mark.slow
@pytest.mark.parametrize("name", LONG)
def test_killed_before_every_change(name: str, workshop: Path, tmp_path: Path, tried) -> None:
    kill_before_every_change(name, workshop, tmp_path, tried)
