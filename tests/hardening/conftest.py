"""The workshop, made once."""

from __future__ import annotations

from pathlib import Path

import pytest

from .workshop import make_head, make_workshop


@pytest.fixture(scope="session")
def workshop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of sound and damaged things; no test changes it."""
    return make_workshop(tmp_path_factory.mktemp("workshop"))


@pytest.fixture(scope="session")
def head_files(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A head alone: checkpoint and ONNX."""
    return make_head(tmp_path_factory.mktemp("head"))
