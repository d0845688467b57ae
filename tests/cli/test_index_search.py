"""index and search as commands: what is printed, what is written, exit codes."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image


def gsp_deploy(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "gsp_deploy_cli.main", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pictures")
    for k in range(6):
        noise = np.random.default_rng(k).integers(0, 256, (3, 3, 3), dtype=np.uint8)
        Image.fromarray(noise).resize((40, 40)).save(folder / f"{k}.png")
    (folder / "broken.jpg").write_bytes(b"no image")
    return folder


def test_a_gallery_is_made_and_searched(tiny_export, pictures: Path, tmp_path: Path) -> None:
    gallery, sheet = tmp_path / "gallery", tmp_path / "sheet.html"
    made = gsp_deploy("index", tiny_export, pictures, "-o", gallery, "--json")
    assert made.returncode == 0, made.stderr
    document = json.loads(made.stdout)
    assert (document["images"], document["kind"], document["recall"]) == (6, "flat", None)
    assert [Path(f["file"]).name for f in document["skipped"]] == ["broken.jpg"]
    query = pictures / "3.png"
    options = ("--index", gallery, "--model", tiny_export, "-k", 2, "--sheet", sheet, "--json")
    found = gsp_deploy("search", query, *options)
    assert found.returncode == 0, found.stderr
    document = json.loads(found.stdout)
    (result,) = document["results"]
    assert [hit["rank"] for hit in result["hits"]] == [1, 2]
    assert result["hits"][0]["file"] == str(query)
    assert result["hits"][0]["cosine"] == pytest.approx(1, abs=1e-5)
    assert sheet.read_text().count("data:image/jpeg") == 3
    again = gsp_deploy("index", tiny_export, pictures, "-o", gallery)
    assert (again.returncode, "--force" in again.stderr) == (2, True)


def test_another_model_is_refused(tiny_export, pictures: Path, tmp_path: Path) -> None:
    gallery = tmp_path / "gallery"
    assert gsp_deploy("index", tiny_export, pictures, "-o", gallery).returncode == 0
    about = gallery / "index.json"
    told = json.loads(about.read_text())
    told["identity"].update(sha256="0" * 64, checkpoint_sha256="1" * 64)
    about.write_text(json.dumps(told))
    other = tmp_path / "other.onnx"
    shutil.copyfile(tiny_export, other)
    ran = gsp_deploy("search", pictures / "3.png", "--index", gallery, "--model", other)
    assert ran.returncode == 2
    assert "search with the model that filled it" in ran.stderr
    assert "Traceback" not in ran.stderr
