"""`--reduced-jpeg` from end to end: recorded, followed by queries, and never mixed in silence."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from gsp_deploy.data.photographs import photograph
from gsp_deploy.retrieval.dataset import open_embeddings

NAMES = ("chelsea.png", "coffee.png", "astronaut.png", "rocket.jpg")


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four JPEG files of two classes, far larger than the model needs."""
    place = tmp_path_factory.mktemp("photos")
    for number, name in enumerate(NAMES):
        folder = place / ("one", "two")[number // 2]
        folder.mkdir(exist_ok=True)
        whole = photograph(name).resize((640, 480), Image.Resampling.BICUBIC)
        whole.save(folder / f"{number}.jpg", quality=92)
    return place


def test_a_data_set_is_of_one_kind(tiny_export, photos: Path, tmp_path: Path, run_here) -> None:
    words = ["embed", tiny_export, photos, "--workers", 1, "--json", "-o"]
    for folder, option in (("whole", ()), ("reduced", ("--reduced-jpeg",))):
        code, _, err = run_here(*words, tmp_path / folder, *option)
        assert code == 0, err
    whole, reduced = (open_embeddings(tmp_path / n) for n in ("whole", "reduced"))
    moved = np.abs(whole.read().embeddings - reduced.read().embeddings).max()
    assert 0 < moved < 0.1
    assert [stored.identity.reduced_jpeg for stored in (whole, reduced)] == [False, True]
    code, _, err = run_here(*words, tmp_path / "whole", "--reduced-jpeg")
    assert (code, "reduced_jpeg False before, True now" in err) == (2, True), err
    code, out, _ = run_here(*words, tmp_path / "reduced", "--reduced-jpeg")
    assert (code, json.loads(out)["reused"]) == (0, 1)


def test_a_table_agrees_with_the_data_set(
    tiny_export, photos: Path, tmp_path: Path, run_here
) -> None:
    for output in ("set", "table.npy"):
        words = ("embed", tiny_export, photos, "-o", tmp_path / output, "--reduced-jpeg")
        assert run_here(*words)[0] == 0
    table, stored = (open_embeddings(tmp_path / name).read() for name in ("table.npy", "set"))
    np.testing.assert_allclose(table.embeddings, stored.embeddings, atol=1e-5)


def test_queries_and_additions_follow_the_index(
    tiny_export, photos: Path, tmp_path: Path, run_here
) -> None:
    gallery, stored = tmp_path / "gallery", tmp_path / "stored"
    one, two = photos / "one", photos / "two"
    code, _, err = run_here("index", tiny_export, one, "-o", gallery, "--reduced-jpeg")
    assert code == 0, err
    code, _, err = run_here("index-add", tiny_export, two, "--to", gallery)
    assert (code, "fraction" in err) == (0, False), err
    query = ("search", two / "2.jpg", "--index", gallery, "--model", tiny_export, "--json")
    code, out, err = run_here(*query)
    assert code == 0, err
    document = json.loads(out)
    assert document["warning"] is None
    assert document["results"][0]["hits"][0]["cosine"] == pytest.approx(1, abs=1e-6)
    assert run_here("embed", tiny_export, two, "-o", stored)[0] == 0
    code, _, err = run_here("index-add", stored, "--to", gallery)
    assert code == 0
    assert "decoded at a fraction of their size for the index and whole for the" in err


def test_evaluation_says_how_images_were_decoded(tiny_export, photos: Path, run_here) -> None:
    found = []
    for option in ((), ("--reduced-jpeg",)):
        words = ("evaluate", tiny_export, "--data", f"folder:{photos}", "--json", *option)
        code, out, err = run_here(*words)
        assert code == 0, err
        found.append(json.loads(out)["reduced_jpeg"])
    assert found == [False, True]


def test_a_model_that_needs_whole_images_refuses(
    tiny_checkpoint, photos: Path, tmp_path: Path, run_here
) -> None:
    from dataclasses import replace

    from gsp_deploy.checkpoint import load_checkpoint, save_checkpoint

    model, path = load_checkpoint(tiny_checkpoint), tmp_path / "opencv.safetensors"
    spec = replace(model.config.preprocessing, pipeline="opencv")
    model.config = replace(model.config, preprocessing=spec)
    save_checkpoint(model, path)
    commands = (
        ("embed", path, photos, "-o", tmp_path / "set"),
        ("embed", path, photos, "-o", tmp_path / "table.npy"),
        ("index", path, photos, "-o", tmp_path / "gallery"),
        ("evaluate", path, "--data", f"folder:{photos}"),
        ("serve", path, "--port", 0),
    )
    for command in commands:
        code, _, err = run_here(*command, "--reduced-jpeg")
        assert (code, "leave out reduced decoding (--reduced-jpeg)" in err) == (2, True), err
    assert sorted(p.name for p in tmp_path.iterdir()) == ["opencv.safetensors"]
