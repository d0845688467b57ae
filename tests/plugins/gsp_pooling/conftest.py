"""The programs that several modules run, compiled once."""

from __future__ import annotations

from pathlib import Path

import pytest

from .building import PLAIN, WITHOUT_MATRIX_UNITS, build


@pytest.fixture(scope="session")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The launcher and its kernels on emulated matrix units."""
    return build(tmp_path_factory.mktemp("matrix_units"), PLAIN)


@pytest.fixture(scope="session")
def scalar_program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same without matrix units, as compiled for bfloat16 on Turing."""
    return build(tmp_path_factory.mktemp("scalar"), WITHOUT_MATRIX_UNITS)
