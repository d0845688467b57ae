"""A size that a backbone does not take is one line, from every command that runs the backbone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from gsp_deploy import EmbeddingModel, GSPConfig, ModelConfig, PreprocessingSpec
from gsp_deploy.checkpoint import save_checkpoint

LINE = "backbone test_vit takes images with sides that are multiples of 16; yours are 40 x 40"


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("sizes") / "model.safetensors"
    config = ModelConfig("test_vit", GSPConfig(64, 8, 4), PreprocessingSpec(40, 40))
    save_checkpoint(EmbeddingModel(config), path)
    return path


@pytest.fixture(scope="module")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("photographs")
    for number in range(2):
        pixels = np.random.default_rng(number).integers(0, 256, (40, 40, 3), np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.png")
    return folder


@pytest.mark.parametrize("command", ["embed", "explain", "export"])
def test_a_checkpoint_of_another_size(command, run_here, checkpoint, photographs, tmp_path) -> None:
    outputs = {"embed": "table.npz", "explain": "maps", "export": "model.onnx"}
    images = () if command == "export" else (photographs,)
    code, out, err = run_here(command, checkpoint, *images, "-o", tmp_path / outputs[command])
    assert (code in (1, 2), LINE in " ".join(err.split()), out) == (True, True, "")
    assert "Traceback" not in err


def test_a_recipe_of_another_size(run_here, tmp_path) -> None:
    settings = (
        "model.backbone=test_vit",
        "model.pretrained=false",
        "model.backbone_options={}",
        "preprocessing.height=40",
        "preprocessing.width=40",
        "data.spec=glyphs:train_classes=40,test_classes=4,images_per_class=8",
    )
    changes = [word for setting in settings for word in ("--set", setting)]
    code, out, err = run_here("train", "glyphs-quick", *changes, "-o", tmp_path / "run")
    assert (code, LINE in " ".join(err.split()), out) == (2, True, ""), err
    assert not (tmp_path / "run").exists()
