"""An index that crashes faiss ends a worker, and the reader gets one line."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import faiss
import numpy as np
import pytest

from gsp_deploy import PreprocessingSpec
from gsp_deploy.base.files import sha256_of
from gsp_deploy.errors import ModelFileError
from gsp_deploy.retrieval.gallery import (
    ModelIdentity,
    gallery_of,
    open_gallery,
    trial,
    write_gallery,
)

DIM, COUNT = 8, 50
IDENTITY = ModelIdentity("a.onnx", "1" * 64, None, "fp32", DIM, None, PreprocessingSpec(32, 32))
VECTORS = np.random.default_rng(0).standard_normal((COUNT, DIM)).astype(np.float32)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    gallery = gallery_of([str(n) for n in range(COUNT)], VECTORS, IDENTITY, "hnsw")
    write_gallery(gallery, tmp_path / "gallery")
    return tmp_path / "gallery"


def claim_hash(folder: Path) -> None:
    """Record the index's present hash, as whoever made the file would."""
    about = folder / "index.json"
    recorded = json.loads(about.read_text())
    recorded["sha256"]["index.faiss"] = sha256_of(folder / "index.faiss")
    about.write_text(json.dumps(recorded))


def test_a_sound_index_is_read(folder: Path) -> None:
    assert trial.try_index(folder / "index.faiss") == (COUNT, DIM)
    assert open_gallery(folder).index.ntotal == COUNT


def test_a_graph_that_points_outside_ends_the_worker_alone(folder: Path) -> None:
    """Each link of the graph leads far outside: following one reads memory that is not there."""
    index = faiss.read_index(str(folder / "index.faiss"))
    links = faiss.vector_to_array(index.hnsw.neighbors)
    links[links >= 0] = 2**31 - 1
    faiss.copy_array_to_vector(links, index.hnsw.neighbors)
    faiss.write_index(index, str(folder / "index.faiss"))
    claim_hash(folder)
    with pytest.raises(ModelFileError, match=r"faiss cannot read index\.faiss: .*index again") as e:
        open_gallery(folder)
    assert "\n" not in str(e.value)


def test_a_vector_that_is_not_there_is_found_out(tmp_path: Path) -> None:
    """A number in the file names a vector beyond the last one, in a cell that few searches see."""
    names = [str(n) for n in range(4 * COUNT)]
    write_gallery(
        gallery_of(names, np.tile(VECTORS, (4, 1)), IDENTITY, "ivf"), tmp_path / "gallery"
    )
    file = tmp_path / "gallery" / "index.faiss"
    raw = file.read_bytes()
    place = raw.rindex(struct.pack("<q", 7))  # the cells' numbers are at the end of the file
    file.write_bytes(raw[:place] + struct.pack("<q", 10**6) + raw[place + 8 :])
    claim_hash(tmp_path / "gallery")
    with pytest.raises(ModelFileError, match="vectors that the index does not have"):
        open_gallery(tmp_path / "gallery")


def test_a_false_length_does_not_take_the_memory(folder: Path) -> None:
    raw = (folder / "index.faiss").read_bytes()
    changed = raw.replace(struct.pack("<Q", COUNT * DIM), struct.pack("<Q", 1 << 36))
    changed = changed.replace(struct.pack("<Q", COUNT * DIM * 4), struct.pack("<Q", 1 << 36))
    assert changed != raw
    (folder / "index.faiss").write_bytes(changed)
    claim_hash(folder)
    with pytest.raises(ModelFileError, match=r"faiss cannot read index\.faiss"):
        open_gallery(folder)


def test_a_worker_that_is_killed_is_named(folder: Path, tmp_path: Path, monkeypatch) -> None:
    worker = tmp_path / "worker.py"
    worker.write_text("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)")
    monkeypatch.setattr(trial, "_WORKER", worker)
    with pytest.raises(ModelFileError, match=r"its reader ended by SIGSEGV.*index again"):
        open_gallery(folder)


def test_another_number_of_vectors_is_named(folder: Path) -> None:
    index = faiss.read_index(str(folder / "index.faiss"))
    index.add(VECTORS[:1])
    faiss.write_index(index, str(folder / "index.faiss"))
    claim_hash(folder)
    with pytest.raises(ModelFileError, match="expected 50 embeddings of 8-D, found 51 of 8-D"):
        open_gallery(folder)
