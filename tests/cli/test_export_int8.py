"""`gsp-deploy export --precision int8`: what it prints, writes, refuses, and its exit codes."""

from __future__ import annotations

import json
import shutil
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from gsp_deploy import EmbeddingModel, GSPConfig, ModelConfig, PreprocessingSpec, open_session
from gsp_deploy.artifact import read_sidecar
from gsp_deploy.checkpoint import save_checkpoint

SIDE = 32


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An untrained network of six convolutions."""
    torch.manual_seed(0)
    head = GSPConfig(16, embedding_dim=8, num_prototypes=4, solver="newton")
    config = ModelConfig("small_cnn_s8", head, PreprocessingSpec(SIDE, SIDE), {"width": 4})
    path = tmp_path_factory.mktemp("checkpoint") / "small.safetensors"
    save_checkpoint(EmbeddingModel(config), path)
    return path


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Patches of three colours: a folder a colour."""
    root, draw = tmp_path_factory.mktemp("images"), np.random.default_rng(0)
    for label, colour in enumerate(([200, 60, 60], [60, 200, 60], [60, 60, 200])):
        for index in range(4):
            pixels = np.array(colour) + draw.normal(0, 40, (SIDE, SIDE, 3))
            path = root / f"colour_{label}" / f"{index}.png"
            path.parent.mkdir(exist_ok=True)
            Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(path)
    return root


@pytest.fixture
def run(run_here):
    """Run the command as a shell would: exit code, stdout, stderr."""
    return partial(run_here, "export")


def test_the_model_runs_and_the_report_tells_what_it_cost(
    run, checkpoint: Path, images: Path, tmp_path: Path
) -> None:
    output = tmp_path / "model.onnx"
    arguments = (checkpoint, "-o", output, "--precision", "int8", "--calibrate", images)
    more = ("--max-drop", "30", "--calibration-method", "percentile", "--include-preprocessing")
    code, out, err = run(*arguments, *more)
    assert code == 0
    assert max(map(len, out.splitlines()[1:])) <= 80  # the first line is the file
    for words in ("int8", "6 of 6 layers", "percentile over 12 images", "MAP@R", "neighbours"):
        assert words in out
    assert "fewer than 100" in err
    with open_session(output) as session:
        assert session.info.precision == "int8"
        picture = np.asarray(Image.open(images / "colour_0" / "0.png"))[None]
        assert session.embed(picture).shape == (1, 8)
    assert sorted(file.name for file in tmp_path.iterdir()) == [
        "model.onnx",
        "model.onnx.calibration.json",
        "model.onnx.json",
    ]


def test_what_is_not_calibrated_on_is_said_once(run, checkpoint, images, tmp_path: Path) -> None:
    """The solver and the quantisation read the same folder."""
    folder = tmp_path / "images"
    shutil.copytree(images, folder)
    folder.joinpath("notes.txt").write_text("no image")
    folder.joinpath("colour_0", "broken.png").write_bytes(b"no image")
    code, _, err = run(
        *(checkpoint, "-o", tmp_path / "model.onnx", "--precision", "int8", "--max-drop", "100"),
        *("--calibrate", folder),
    )
    assert code == 0
    assert err.count("passed over 1 file: 1 .txt") == 1
    assert err.count("broken.png") == 1


def test_a_drop_that_cannot_be_kept_exits_3_with_the_best_attempt(
    run, checkpoint: Path, images: Path, tmp_path: Path
) -> None:
    """Without classes every rounding shows, so that a drop of nothing at all is out of reach."""
    output = tmp_path / "model.onnx"
    code, out, err = run(
        *(checkpoint, "-o", output, "--precision", "int8", "--calibrate", images),
        *("--validate", images / "colour_1", "--max-drop", "0", "--json"),
    )
    assert code == 3
    assert "cosine drops by" in err
    assert "--max-drop allows 0" in err
    document = json.loads(out)
    assert (document["document"], document["version"]) == ("export", 1)
    record = document["manifest"]["quantisation"]
    assert record["measure"] == "cosine"
    assert len(record["float_layers"]) == 5
    assert {"layer", "node", "operator", "sensitivity"} == set(record["float_layers"][0])
    assert record["score"] < record["float32_score"]
    written = read_sidecar(output)
    assert written is not None
    assert written.quantisation is not None
    assert not written.quantisation.passed
    assert written.quantisation.score == record["score"]


def test_layers_left_in_float_are_tabled(
    run, checkpoint: Path, images: Path, tmp_path: Path
) -> None:
    code, out, _ = run(
        *(checkpoint, "-o", tmp_path / "model.onnx", "--precision", "int8"),
        *("--calibrate", images, "--validate", images / "colour_1", "--max-drop", "0"),
    )
    assert code == 3
    assert max(map(len, out.splitlines()[1:])) <= 80  # the first line is the file
    rows = [line for line in out.splitlines() if "units." in line]
    assert len(rows) == 5
    assert all("Conv" in row and "%" in row for row in rows)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--precision", "int8"), "--calibrate"),
        (("--max-drop", "1"), "--max-drop belongs to --precision int8"),
        (("--precision", "fp16", "--validate", "glyphs"), "--validate belongs to"),
    ],
)
def test_options_that_do_not_fit_exit_2(
    arguments: tuple[str, ...],
    words: str,
    run,
    checkpoint: Path,
    tmp_path: Path,
) -> None:
    output = tmp_path / "model.onnx"
    code, out, err = run(checkpoint, "-o", output, *arguments)
    assert code == 2
    assert words in err
    assert out == ""
    assert not output.exists()
