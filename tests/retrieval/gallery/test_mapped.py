"""An open gallery does not take its file's size of memory."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import faiss
import numpy as np
import pytest

from gsp_deploy import PreprocessingSpec
from gsp_deploy.retrieval.gallery import (
    Gallery,
    ModelIdentity,
    gallery_of,
    open_gallery,
    write_gallery,
)
from gsp_deploy.retrieval.gallery.kinds import empty_index

COUNT, DIM = 12_500, 512
IDENTITY = ModelIdentity("a.onnx", "1" * 64, None, "fp32", DIM, None, PreprocessingSpec(32, 32))
# Own memory, in bytes, that a way of opening takes: pages of mapped files are not anonymous. The
# sums in /proc/self/status lag behind by megabytes on machines with many cores.
MEASURE = """
import sys
import psutil
from gsp_deploy.retrieval.gallery import index
import numpy as np

def own():
    return sum(mapping.anonymous for mapping in psutil.Process().memory_maps())

index.faiss.omp_set_num_threads(1)
index.faiss.IndexFlatIP(8).search(np.ones((1, 8), np.float32), 1)
before = own()
gallery = index.open_gallery(sys.argv[1], to_change=sys.argv[2] == "whole")
gallery.nearest(np.ones((2, gallery.index.d), np.float32), 10)
print(own() - before)
"""


def own_memory(folder: Path, way: str) -> int:
    """The bytes that a new process takes to open a gallery, `"mapped"` or `"whole"`."""
    return int(subprocess.check_output([sys.executable, "-c", MEASURE, str(folder), way]))


@pytest.fixture(scope="module")
def vectors() -> np.ndarray:
    return np.random.default_rng(0).standard_normal((COUNT, DIM), dtype=np.float32)


def badly_trained(kind, vectors: np.ndarray) -> Gallery:
    """A gallery of the right size, made fast: its search need not be good."""
    index = empty_index(kind, *vectors.shape)
    cells = faiss.downcast_index(index.base_index if kind == "ivf-pq" else index)
    if kind != "flat":
        cells.cp.niter = 1
    if kind == "ivf-pq":
        cells.pq.cp.niter = 1
    index.train(vectors[:600])
    index.add(vectors)
    return Gallery(index, tuple(map(str, range(len(vectors)))), IDENTITY, kind)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs Linux's /proc")
@pytest.mark.parametrize("kind", ["flat", "ivf", "ivf-pq"])
def test_an_open_gallery_takes_little_of_its_size(kind, vectors, tmp_path: Path) -> None:
    folder = tmp_path / "gallery"
    write_gallery(badly_trained(kind, vectors), folder)
    size = (folder / "index.faiss").stat().st_size
    assert own_memory(folder, "whole") > 0.9 * size
    assert own_memory(folder, "mapped") < 0.4 * size


def test_a_gallery_that_is_replaced_stays_open(vectors, tmp_path: Path) -> None:
    folder, ids = tmp_path / "gallery", ["a", "b", "c"]
    write_gallery(gallery_of(ids, vectors[:3], IDENTITY), folder)
    opened = open_gallery(folder)
    write_gallery(gallery_of(ids, vectors[3:6], IDENTITY), folder, force=True)
    cosines, _ = opened.nearest(vectors[:3], 1)
    np.testing.assert_allclose(cosines, 1, atol=1e-6)
