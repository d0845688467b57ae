"""A folder of Qdrant's client is read without running what is pickled in it."""

from __future__ import annotations

import os
import pickle
import sqlite3
from pathlib import Path

import pytest

from gsp_deploy.errors import ModelFileError
from gsp_deploy.retrieval.servers import Place, fill_collection, open_collection
from gsp_deploy.retrieval.servers.qdrant_folder import check_folder

pytest.importorskip("qdrant_client")


class _Hostile:
    def __init__(self, file: Path) -> None:
        self._file = file

    def __reduce__(self) -> tuple:
        return os.mkdir, (str(self._file),)


@pytest.mark.parametrize("point", ["hostile", "damaged"])
def test_a_hostile_folder_is_refused_and_runs_nothing(
    point: str, identity, vectors, tmp_path: Path
) -> None:
    place, trace = Place("qdrant", str(tmp_path / "stored"), "photos"), tmp_path / "trace"
    with fill_collection(place, identity)[0] as collection:
        collection.add(["a.png"], vectors[:1])
    check_folder(Path(place.uri))
    content = pickle.dumps(_Hostile(trace)) if point == "hostile" else b"\x80\x04\xff"
    (file,) = Path(place.uri).rglob("storage.sqlite")
    with sqlite3.connect(file) as base:
        base.execute("UPDATE points SET point = ?", (content,))
    base.close()
    with pytest.raises(ModelFileError, match="not a collection of Qdrant that is safe to open"):
        open_collection(place)
    assert not trace.exists()
