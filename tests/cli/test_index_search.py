"""index and search as commands: what is printed, what is written, exit codes."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pictures")
    for k in range(6):
        noise = np.random.default_rng(k).integers(0, 256, (3, 3, 3), dtype=np.uint8)
        Image.fromarray(noise).resize((40, 40)).save(folder / f"{k}.png")
    (folder / "broken.jpg").write_bytes(b"no image")
    return folder


def test_a_gallery_is_made_and_searched(tiny_export, pictures, tmp_path: Path, run_here) -> None:
    gallery, sheet = tmp_path / "gallery", tmp_path / "sheet.html"
    code, out, err = run_here("index", tiny_export, pictures, "-o", gallery, "--json")
    assert code == 0, err
    document = json.loads(out)
    assert (document["images"], document["kind"], document["recall"]) == (6, "flat", None)
    assert [Path(f["file"]).name for f in document["skipped"]] == ["broken.jpg"]
    query = pictures / "3.png"
    options = ("--index", gallery, "--model", tiny_export, "-k", 2, "--sheet", sheet, "--json")
    code, out, err = run_here("search", query, *options)
    assert code == 0, err
    document = json.loads(out)
    (result,) = document["results"]
    assert [hit["rank"] for hit in result["hits"]] == [1, 2]
    assert result["hits"][0]["file"] == str(query)
    assert result["hits"][0]["cosine"] == pytest.approx(1, abs=1e-5)
    assert sheet.read_text().count("data:image/jpeg") == 3
    code, _, err = run_here("index", tiny_export, pictures, "-o", gallery)
    assert (code, "--force" in err) == (2, True)


def test_another_model_is_refused(tiny_export, pictures, tmp_path: Path, run_here) -> None:
    gallery = tmp_path / "gallery"
    assert run_here("index", tiny_export, pictures, "-o", gallery)[0] == 0
    about = gallery / "index.json"
    told = json.loads(about.read_text())
    told["identity"].update(sha256="0" * 64, checkpoint_sha256="1" * 64)
    about.write_text(json.dumps(told))
    other = tmp_path / "other.onnx"
    shutil.copyfile(tiny_export, other)
    code, _, err = run_here("search", pictures / "3.png", "--index", gallery, "--model", other)
    assert code == 2
    assert "search with the index's model" in err
