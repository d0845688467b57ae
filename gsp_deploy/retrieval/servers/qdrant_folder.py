"""Check a folder of Qdrant's client before the client opens it.

The client pickles each point, and unpickles all of them when it opens the folder, so a hostile
folder could run code. This reads them first with an unpickler that knows no code.
"""

from __future__ import annotations

import io
import pickle
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

from gsp_deploy.errors import ModelFileError, brief, reason_of

_MODELS = "qdrant_client.http.models.models"


class _Plain:
    """Takes the place of each of the client's data classes."""


class _Reader(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if module != _MODELS or not name.isidentifier():
            raise pickle.UnpicklingError(f"a point calls {brief(f'{module}.{name}')}")
        return _Plain


def check_folder(folder: Path) -> None:
    """Check every point of every collection in a folder; a folder that is not there is fine.

    Raises:
        ModelFileError: a point is damaged, or contains anything but data.
    """
    for file in sorted(folder.glob("collection/*/storage.sqlite")):
        try:
            with closing(sqlite3.connect(f"{file.absolute().as_uri()}?mode=ro", uri=True)) as base:
                for (point,) in base.execute("SELECT point FROM points"):
                    _Reader(io.BytesIO(point)).load()
        except Exception as error:  # a damaged pickle raises anything
            raise ModelFileError(
                f"{file}: not a collection of Qdrant that is safe to open ({reason_of(error)}); "
                "send the embeddings to a new folder"
            ) from error
