"""Read the tables `.npy` and `.npz`: embeddings, and the ids beside or among them."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np

from gsp_deploy.base.arrays import read_array
from gsp_deploy.base.inputs import require_regular
from gsp_deploy.errors import DataError, reason_of
from gsp_deploy.retrieval.tables import ids_path


def read_ids(path: Path) -> list[str]:
    """Return the ids of a `.npy` or `.npz` table.

    Raises:
        DataError: they are missing or damaged.
    """
    if path.suffix == ".npz":
        return [str(name) for name in _member(path, "ids")]
    beside = ids_path(path)
    try:
        require_regular(beside)
        text = beside.read_text(encoding="utf-8", errors="surrogateescape")
    except OSError as error:
        raise DataError(f"{beside}: cannot be read ({reason_of(error)})") from error
    return text.split("\n")[:-1]


def open_array(path: Path) -> np.ndarray:
    """Return the embeddings of a `.npy` or `.npz` table, `(n, D)`.

    Raises:
        DataError: the file is damaged or contains something else.
    """
    try:
        found = _member(path, "embeddings") if path.suffix == ".npz" else read_array(path)
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: cannot be read ({reason_of(error)})") from error
    if found.ndim != 2 or not np.issubdtype(found.dtype, np.number):
        raise DataError(f"{path}: expected embeddings (n, D), got {found.dtype} {found.shape}")
    return found


def _member(path: Path, name: str) -> np.ndarray:
    try:
        require_regular(path)
        with np.load(path, allow_pickle=False) as archive:
            return archive[name]
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise DataError(f"{path}: not a table of embeddings ({reason_of(error)})") from error
