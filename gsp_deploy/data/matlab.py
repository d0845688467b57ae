"""Read MATLAB files in a separate process, because a damaged file can crash scipy's parser."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from gsp_deploy.base.inputs import require_regular
from gsp_deploy.base.platforms import install_line
from gsp_deploy.base.worker import WorkerError, WorkerLacksPackageError, run_worker
from gsp_deploy.errors import DataError, MissingCapabilityError

# Cars196's own files take at most 3 s; this limit stops a file that makes the parser hang.
SECONDS = 120
_WORKER = Path(__file__).with_name("matlab_worker.py")


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
        printed = run_worker(_WORKER, path, *fields, seconds=seconds)
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from error
    except WorkerLacksPackageError as error:
        raise MissingCapabilityError(
            "this data set needs the package scipy, which is not installed; install it with: "
            f"{install_line('train')}"
        ) from error
    except WorkerError as error:
        raise DataError(
            f"{path}: not a MATLAB file that scipy can read ({error}); unpack the archive again"
        ) from error
    tables: dict[str, Any] = json.loads(printed)
    return tables
