"""Each parser on its corpus, and for ten seconds more by atheris where that is installed."""

from __future__ import annotations

import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from .targets import TARGETS, attempt, corpus_of

TESTS = Path(__file__).parents[1]
SECONDS = 10


@pytest.mark.parametrize("name", TARGETS)
def test_the_corpus(name: str) -> None:
    inputs = list(corpus_of(name))
    assert inputs
    for path in inputs:
        attempt(name, path.read_bytes())


@pytest.mark.slow
@pytest.mark.skipif(find_spec("atheris") is None, reason="atheris is not installed")
def test_nothing_breaks(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "fuzzing", "all", f"-max_total_time={SECONDS}"]
    command += [f"-artifact_prefix={tmp_path}/"]
    done = subprocess.run(command, cwd=TESTS, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    assert done.stderr.count("Done ") == len(TARGETS)
