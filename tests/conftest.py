"""Fixtures that several test modules share."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

GOLDEN = Path(__file__).parent / "golden"


@pytest.fixture(scope="session", autouse=True)
def _few_threads() -> None:
    """Small tensors on small machines: more threads only cost."""
    torch.set_num_threads(2)


@pytest.fixture(scope="session")
def golden() -> Path:
    """The folder of vectors recorded from the authors' layers."""
    return GOLDEN
