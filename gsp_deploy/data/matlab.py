"""Read MATLAB files in a separate process, because a damaged file can crash scipy's parser."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

from gsp_deploy.base.inputs import require_regular
from gsp_deploy.errors import DataError, MissingCapabilityError

# Cars196's own files take at most 3 s; this limit stops a file that makes the parser hang.
SECONDS = 120
_WORKER = Path(__file__).with_name("matlab_worker.py")
_LACKS_SCIPY = 3


def read_matlab(path: Path, fields: tuple[str, ...], seconds: float = SECONDS) -> dict[str, Any]:
    """Return the tables of Cars196's files as plain data.

    Args:
        path: a `.mat` file.
        fields: the fields to return from each entry of `annotations`, if the entry has them.
        seconds: time limit for reading.

    Returns:
        `annotations`, a list of dicts of numbers and texts, and `class_names`, a list of texts;
        each only if the file has it.

    Raises:
        DataError: the file is missing or damaged, or reading it takes too long or too much memory.
        MissingCapabilityError: scipy is not installed.
    """
    try:
        require_regular(path)
        ended = subprocess.run(
            [sys.executable, str(_WORKER), str(path), *fields],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=seconds,
            check=False,
        )
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from error
    except subprocess.TimeoutExpired as error:
        raise DataError(
            f"{path}: reading it took more than {seconds:g} s; unpack the archive again"
        ) from error
    if ended.returncode == _LACKS_SCIPY:
        raise MissingCapabilityError(
            "this data set needs the package scipy, which is not installed; "
            "install it with: pip install 'gsp-deploy[train]'"
        )
    if ended.returncode != 0:
        raise DataError(
            f"{path}: not a MATLAB file that scipy can read ({_reason(ended)}); "
            "unpack the archive again"
        )
    tables: dict[str, Any] = json.loads(ended.stdout)
    return tables


def _reason(ended: subprocess.CompletedProcess[bytes]) -> str:
    if ended.returncode < 0:
        return f"its reader ended by {signal.Signals(-ended.returncode).name}"
    lines = ended.stderr.decode(errors="replace").strip().splitlines()
    return lines[-1] if lines else f"its reader ended with code {ended.returncode}"
