"""The programs that several modules run, compiled once."""

from __future__ import annotations

import functools
from pathlib import Path

import pytest
from once import made_once

from .building import PROGRAM, WITHOUT_MATRIX_UNITS, build


@pytest.fixture(scope="session")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The launcher and its kernels on emulated matrix units."""
    return made_once(tmp_path_factory, "matrix_units", build) / PROGRAM


@pytest.fixture(scope="session")
def scalar_program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same without matrix units, as compiled for bfloat16 on Turing."""
    scalar = functools.partial(build, variant=WITHOUT_MATRIX_UNITS)
    return made_once(tmp_path_factory, "scalar", scalar) / PROGRAM
