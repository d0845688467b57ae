"""The paper's protocol as models/README.md tells it: four folds, four checkpoints, one ensemble."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from gsp_deploy import open_session
from gsp_deploy.checkpoint import read_checkpoint
from gsp_deploy.data import open_dataset
from gsp_deploy.retrieval.evaluation import embed_images

DATA = "glyphs:clutter=0,size=48,scale=0.6,images_per_class=6,train_classes=24,test_classes=6"
FOLDS = (1, 2, 3, 4)
SHORT = ("--set", "run.steps=4", "--set", "run.evaluate_every=2", "--set", "run.tensorboard=false")


def first_neighbours_right(embeddings: np.ndarray, labels: np.ndarray) -> float:
    """Return the share of rows whose nearest other row is of their class."""
    distances = np.linalg.norm(embeddings[:, None] - embeddings[None], axis=2)
    np.fill_diagonal(distances, np.inf)
    return float((labels[distances.argmin(axis=1)] == labels).mean())


@pytest.mark.slow
def test_four_folds_are_trained_and_evaluated_as_one(run_here, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    for fold in FOLDS:
        code, _, err = run_here(
            "train", "glyphs-quick", "--data", DATA, "--fold", f"{fold}/4", *SHORT
        )
        assert code == 0, err
        assert "training on 108 images of 18 classes, validating on 36 of 6 others" in err
    models = sorted(Path("runs").glob("glyphs-quick-glyphs-fold?/best.safetensors"))
    commands = [read_checkpoint(model).metadata.provenance.command for model in models]
    for fold, told in zip(FOLDS, commands, strict=True):
        assert f"data.fold={fold}/4" in told

    code, out, err = run_here("evaluate", *models, "--data", DATA, "--json")
    assert code == 0, err
    found, test = json.loads(out), open_dataset(DATA).test
    assert (found["images"], list(found["models"])) == (36, [str(model) for model in models])
    embeddings = []
    for model, figures in zip(models, found["models"].values(), strict=True):
        with open_session(model) as session:
            embeddings.append(embed_images(session, test))
        expected = first_neighbours_right(embeddings[-1], test.labels)
        assert figures["recall_at_1"] == pytest.approx(expected)
    assert not np.allclose(embeddings[0], embeddings[1], atol=1e-2)
    joined = np.concatenate(embeddings, axis=1)
    expected = first_neighbours_right(joined, test.labels)
    assert found["concatenated"]["recall_at_1"] == pytest.approx(expected)
    for name in ("recall_at_1", "map_at_r"):
        each = [figures[name] for figures in found["models"].values()]
        assert found["separated"][name] == pytest.approx(np.mean(each))
