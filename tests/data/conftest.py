from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image


@pytest.fixture
def put_image(tmp_path: Path) -> Callable[[str], Path]:
    """Write a small picture below `tmp_path`; its colour follows from its name."""

    def put(name: str) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        colour = tuple((sum(name.encode()) * factor) % 256 for factor in (3, 5, 7))
        Image.new("RGB", (6, 4), colour).save(path)
        return path

    return put
