"""The workshop, made once, and the table of what was tried.

GSP_TRIED=tests/hardening/TRIED.md pytest tests/hardening    # or: make tried
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from .table import Row, write_table
from .workshop import make_head, make_workshop


@pytest.fixture(scope="session")
def workshop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of valid and damaged files; no test changes it."""
    return make_workshop(tmp_path_factory.mktemp("workshop"))


@pytest.fixture(scope="session")
def head_files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A head alone in each kind of file: checkpoint, state dict, ONNX."""
    return make_head(tmp_path_factory.mktemp("head"))


@pytest.fixture(scope="session")
def tried(workshop: Path) -> Iterator[Callable[..., None]]:
    """Return a function that adds a row to the table: kind, what was tried, the outcome."""
    rows: list[Row] = []
    yield lambda *cells: rows.append(Row(*cells))
    if "GSP_TRIED" in os.environ:
        write_table(rows, Path(os.environ["GSP_TRIED"]), workshop)
