"""Paths that are not UTF-8: used where Python opens the file, refused in one line elsewhere."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from gsp_deploy.retrieval.dataset import open_embeddings

pytestmark = pytest.mark.skipif(
    sys.platform != "linux", reason="only Linux allows names of any bytes"
)


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A folder with two images, all of which have names that are not UTF-8."""
    folder = tmp_path / os.fsdecode(b"caf\xe9")
    (folder / "images").mkdir(parents=True)
    draw = np.random.default_rng(0)
    for name in (b"\xff.png", b"plain.png"):
        pixels = draw.integers(0, 256, (30, 40, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / "images" / os.fsdecode(name))
    return folder


@pytest.mark.parametrize("name", ["t.npy", "t.npz", "t.parquet", "dataset"])
def test_embeddings_are_written_and_read(name: str, place: Path, tiny_export: str, run_here):
    workers = () if "." in name else ("--workers", "1")
    code, _, err = run_here(
        "embed", tiny_export, place / "images", "-o", place / name, "--json", *workers
    )
    assert code == 0, err
    assert len(open_embeddings(place / name).read()) == 2


@pytest.mark.parametrize(
    "words",
    [
        ("index", "@", "%/images", "-o", "%/gallery"),
        ("package", "@", "-o", "%/bundle"),
        ("export", "--from", "@", "--pooling", "plugin", "-o", "%/m.onnx"),
        ("search", "%/images/plain.png", "--index", "%/images", "--model", "@"),
        ("embed", "%/tiny.onnx", "%/images", "-o", "%/t.npy"),
        ("adopt", "%/tiny.onnx", "-o", "m.onnx"),
        ("demo", "-o", "%/demo"),
    ],
    ids=lambda words: words[0],
)
def test_what_other_libraries_open_is_refused_in_a_line(
    words: tuple[str, ...], place: Path, tiny_export: str, run_here
) -> None:
    shutil.copy(tiny_export, place / "tiny.onnx")
    before = sorted(place.rglob("*"))
    arguments = (word.replace("@", tiny_export).replace("%", str(place)) for word in words)
    code, _, err = run_here(*arguments)
    assert (code, "expected a path in UTF-8" in err) == (2, True), err
    assert sorted(place.rglob("*")) == before
