"""Read the tables `.npy` and `.npz`: embeddings, and the ids beside or among them."""

from __future__ import annotations

import zipfile
import zlib
from pathlib import Path
from typing import BinaryIO, cast

import numpy as np

from gsp_deploy.base.arrays import array_from, read_array
from gsp_deploy.base.inputs import require_regular
from gsp_deploy.errors import DataError, reason_of
from gsp_deploy.retrieval.tables import ids_path

_KINDS_OF_IDS = "Uiu"  # text, or whole numbers
_KINDS_OF_NUMBERS = "fiu"
# What zipfile raises for a damaged archive, an encrypted one, or an unknown compression.
_DAMAGE = (OSError, ValueError, KeyError, RuntimeError, EOFError, zipfile.BadZipFile, zlib.error)


def read_ids(path: Path) -> list[str]:
    """Return the ids of a `.npy` or `.npz` table.

    Raises:
        DataError: they are missing or damaged.
    """
    if path.suffix == ".npz":
        return _texts(path, _member(path, "ids"))
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
    if found.ndim != 2 or found.dtype.kind not in _KINDS_OF_NUMBERS:
        raise DataError(f"{path}: expected embeddings (n, D), got {found.dtype} {found.shape}")
    return found


def _texts(path: Path, ids: np.ndarray) -> list[str]:
    if ids.ndim != 1 or ids.dtype.kind not in _KINDS_OF_IDS:
        raise DataError(f"{path}: expected ids (n,) of text, got {ids.dtype} {ids.shape}")
    try:
        return [str(name) for name in ids]
    except (ValueError, SystemError) as error:  # a number that is not a character
        raise DataError(f"{path}: the ids are damaged ({reason_of(error)})") from error


def _member(path: Path, name: str) -> np.ndarray:
    """Return an array of a `.npz` file, whose length is checked before memory is allocated.

    Raises:
        DataError: the file is not a zip archive of arrays, or lacks this one.
    """
    try:
        require_regular(path)
        with zipfile.ZipFile(path) as archive:
            entry = archive.getinfo(f"{name}.npy")
            with archive.open(entry) as stream:
                return array_from(cast(BinaryIO, stream), entry.file_size)
    except _DAMAGE as error:
        raise DataError(f"{path}: not a table of embeddings ({reason_of(error)})") from error
