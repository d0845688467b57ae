"""index and search as commands: what is printed, what is written, exit codes."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from gsp_deploy.base.file_names import from_text


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


@pytest.mark.parametrize("name", ["set", "table.npy", "table.npz", "table.parquet"])
def test_what_embed_wrote_is_indexed(
    name: str, tiny_export, pictures, tmp_path: Path, run_here
) -> None:
    pytest.importorskip("pyarrow")
    stored, gallery = tmp_path / name, tmp_path / "gallery"
    code, _, err = run_here("embed", tiny_export, pictures, "-o", stored)
    assert code == 0, err
    model = () if name == "set" else ("--model", tiny_export)
    if model:
        code, _, err = run_here("index", stored, "-o", gallery)
        assert (code, "name that model with --model" in err) == (2, True)
        assert not gallery.exists()
    for sources in ((tiny_export, stored), (stored, *model)):
        code, out, err = run_here("index", *sources, "-o", gallery, "--json", "--force")
        assert code == 0, err
    assert json.loads(out)["model"]["file"] == Path(tiny_export).name
    query = pictures / "3.png"
    code, out, err = run_here("search", query, "--index", gallery, "--model", tiny_export, "--json")
    assert code == 0, err
    hits = json.loads(out)["results"][0]["hits"]
    assert (len(hits), hits[0]["file"]) == (6, str(query))


@pytest.mark.parametrize(
    ("ids", "vectors", "said"),
    [
        ("a\nb\n", np.ones((2, 7)), "got 7-D"),
        ("a\na\n", np.ones((2, 8)), "got 'a' 2 times"),
        ("a\nb\n", np.full((2, 8), np.nan), "embedding 0 contains NaN"),
        ("\nb\n", np.ones((2, 8)), "must hold file names"),
        ("", np.ones((0, 8)), "has no embeddings"),
    ],
)
def test_damaged_embeddings_are_one_line(
    ids: str, vectors: np.ndarray, said: str, tiny_export, tmp_path: Path, run_here
) -> None:
    pytest.importorskip("pyarrow")
    np.save(tmp_path / "t.npy", vectors.astype(np.float32))
    (tmp_path / "t.ids.txt").write_text(ids)
    options = ("--model", tiny_export, "-o", tmp_path / "gallery")
    code, _, err = run_here("index", tmp_path / "t.npy", *options)
    assert (code, said in " ".join(err.split())) == (1, True), err
    assert not (tmp_path / "gallery").exists()


def test_images_are_added_and_removed(tiny_export, pictures, tmp_path: Path, run_here) -> None:
    gallery = tmp_path / "gallery"
    assert run_here("index", tiny_export, pictures / "0.png", "-o", gallery)[0] == 0
    code, out, err = run_here("index-add", tiny_export, pictures, "--to", gallery, "--json")
    assert code == 0, err
    assert json.loads(out)["images"] == 6
    assert "1 of 6 were there already" in err
    code, out, err = run_here("index-remove", gallery, pictures / "3.png", "--json")
    assert (code, json.loads(out)["images"]) == (0, 5), err
    options = ("--index", gallery, "--model", tiny_export, "--json")
    code, out, err = run_here("search", pictures / "3.png", *options)
    assert code == 0, err
    hits = [Path(hit["file"]).name for hit in json.loads(out)["results"][0]["hits"]]
    assert sorted(hits) == ["0.png", "1.png", "2.png", "4.png", "5.png"]


def test_a_gallery_is_compacted(tiny_export, pictures, tmp_path: Path, run_here) -> None:
    gallery = tmp_path / "gallery"
    assert run_here("index", tiny_export, pictures, "-o", gallery, "--kind", "hnsw")[0] == 0
    code, out, err = run_here("index-compact", gallery, "--json")
    assert (code, json.loads(out)["images"], json.loads(out)["kind"]) == (0, 6, "hnsw"), err
    assert "note: recall@10 100.0 -> 100.0 %, measured among 4 -> 4" in err
    assert run_here("index", tiny_export, pictures, "-o", gallery, "--force")[0] == 0
    code, out, err = run_here("index-compact", gallery)
    assert (code, "nothing was gained" in err) == (0, True), err


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
    assert "take the index's model" in err


@pytest.fixture
def pictures_of_any_name(pictures, tmp_path: Path) -> list[str]:
    """Two pictures with names that are not UTF-8, and one whose name looks like their escapes."""
    folder = tmp_path / "any"
    folder.mkdir()
    names = [os.fsdecode(b"caf\xe9.png"), os.fsdecode(b"\xff\xfe.png"), "bytes:caf%E9.png"]
    paths = [os.path.join(folder, name) for name in names]
    try:
        for number, path in enumerate(paths):
            shutil.copyfile(pictures / f"{number}.png", path)
    except OSError:
        pytest.skip("needs a file system that takes any bytes as a name")
    return paths


def test_every_output_takes_names_of_any_bytes(
    tiny_export, pictures_of_any_name, tmp_path: Path, run_here
) -> None:
    gallery, sheet = tmp_path / "gallery", tmp_path / "sheet.html"
    assert run_here("index", tiny_export, tmp_path / "any", "-o", gallery, "--json")[0] == 0
    options = ("--index", gallery, "--model", tiny_export, "--sheet", sheet, "--json")
    code, out, err = run_here("search", pictures_of_any_name[0], *options)
    assert code == 0, err
    (result,) = json.loads(out.encode())["results"]
    assert "\\ud" not in out  # no lone surrogate, which most readers of JSON refuse
    assert from_text(result["query"]) == pictures_of_any_name[0]
    assert {from_text(hit["file"]) for hit in result["hits"]} == set(pictures_of_any_name)
    sheet.read_text(encoding="utf-8")
    parquet = pytest.importorskip("pyarrow.parquet")
    table = tmp_path / "table.parquet"
    assert run_here("embed", tiny_export, tmp_path / "any", "-o", table)[0] == 0
    ids = parquet.read_table(table)["id"].to_pylist()
    assert {from_text(name) for name in ids} == set(pictures_of_any_name)
    code, out, err = run_here(
        "check", tiny_export, tiny_export, "--images", tmp_path / "any", "--json"
    )
    assert code == 0, err
    assert {from_text(name) for name in json.loads(out)["ids"]} == set(pictures_of_any_name)
