"""`--also residual` from end to end: export, embed and check."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from gsp_deploy import load_checkpoint
from gsp_deploy.data.photographs import photograph
from gsp_deploy.export import ExportOptions, export_onnx


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three photographs."""
    place = tmp_path_factory.mktemp("photographs")
    for name in ("chelsea.png", "coffee.png", "astronaut.png"):
        photograph(name).resize((64, 64)).save(place / name)
    return place


@pytest.fixture(scope="module")
def exported(tiny_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("export") / "tiny.onnx"
    options = ExportOptions(outputs=("residual",), iterations=4, solver="newton")
    return export_onnx(load_checkpoint(tiny_checkpoint), path, options).path


def test_embed_writes_a_column(exported: Path, folder: Path, tmp_path: Path, run_here) -> None:
    table = tmp_path / "e.npz"
    words = ("embed", exported, folder, "--also", "residual")
    code, out, err = run_here(*words, "-o", table, "--json")
    assert code == 0, err
    found, told = np.load(table), json.loads(out)
    assert found["residual"].shape == found["embedding_bound"].shape == (told["images"],)
    assert told["largest_residual"] == found["residual"].max() < 1e-3
    code, out, err = run_here(*words, "-o", tmp_path / "f.npz")
    assert code == 0
    assert "largest residual" in out + err


def test_embed_says_where_a_residual_comes_from(
    tiny_export: str, folder: Path, tmp_path: Path, run_here
) -> None:
    table = tmp_path / "e.npz"
    code, _, err = run_here("embed", tiny_export, folder, "-o", table, "--also", "residual")
    assert code == 2
    assert "has no output residual; export it with --also residual" in " ".join(err.split())
    assert not table.exists()


def test_embed_refuses_a_table_without_columns_at_once(
    exported: Path, folder: Path, tmp_path: Path, run_here
) -> None:
    table = tmp_path / "e.npy"
    code, _, err = run_here("embed", exported, folder, "-o", table, "--also", "residual")
    assert code == 2
    assert "a .npy contains only the embeddings" in " ".join(err.split())


def test_check_shows_what_the_candidate_says_of_itself(
    tiny_checkpoint: Path, exported: Path, folder: Path, run_here
) -> None:
    words = ("check", tiny_checkpoint, exported, "--images", folder)
    told = json.loads(run_here(*words, "--json")[1])
    assert told["certificates"].keys() == {"residual", "embedding_bound"}
    assert "residual, candidate" in "".join(run_here(*words)[1:])


def test_check_compares_the_layers_of_such_a_model(
    tiny_checkpoint: Path, exported: Path, folder: Path, run_here
) -> None:
    code, _, err = run_here("check", tiny_checkpoint, exported, "--images", folder, "--layers")
    assert code == 0, err
