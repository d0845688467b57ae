"""Run a parser of untrusted files in a process of its own, because a damaged file can crash it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

LACKS_PACKAGE = 3  # a worker's exit code if a package that it needs is not installed


class WorkerError(Exception):
    """A worker did not finish; the message says why, in a few words."""


class WorkerLacksPackageError(Exception):
    """A worker needs a package that is not installed."""


def run_worker(script: Path, *arguments: str | os.PathLike[str], seconds: float) -> bytes:
    """Run a Python file and return what it printed.

    Raises:
        WorkerError: it failed, crashed, or took longer than `seconds`.
        WorkerLacksPackageError: it ended with `LACKS_PACKAGE`.
    """
    try:
        ended = subprocess.run(
            [sys.executable, str(script), *(os.fspath(argument) for argument in arguments)],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=seconds,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise WorkerError(f"reading it took more than {seconds:g} s") from error
    if ended.returncode == LACKS_PACKAGE:
        raise WorkerLacksPackageError
    if ended.returncode != 0:
        raise WorkerError(_reason(ended))
    return ended.stdout


def _reason(ended: subprocess.CompletedProcess[bytes]) -> str:
    if ended.returncode < 0:
        return f"its reader ended by {signal.Signals(-ended.returncode).name}"
    lines = ended.stderr.decode(errors="replace").strip().splitlines()
    return lines[-1] if lines else f"its reader ended with code {ended.returncode}"
