"""`gsp-deploy check`: exit codes, the document, the tables, and what it says of wrong use."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from PIL import Image
from typer.testing import CliRunner, Result

from gsp_deploy.errors import GateError, GspDeployError, UsageError
from gsp_deploy_cli.main import app

WIDTH = 80
CORRUPTED = "backbone.conv1.3"

runner = CliRunner()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, tiny_checkpoint: Path) -> Path:
    """`model.safetensors`, `good.onnx` made from it, and `bad.onnx` with one weight changed."""
    from gsp_deploy.checkpoint import load_checkpoint
    from gsp_deploy.export import ExportOptions, export_onnx

    root = tmp_path_factory.mktemp("check")
    (root / "model.safetensors").write_bytes(tiny_checkpoint.read_bytes())
    options = ExportOptions(outputs=("attributes", "weights"))
    export_onnx(load_checkpoint(tiny_checkpoint), root / "good.onnx", options)
    model = onnx.load(root / "good.onnx")
    weight = next(w for w in model.graph.initializer if w.name == f"{CORRUPTED}.weight")
    values = numpy_helper.to_array(weight).copy()
    values[0] *= -5
    weight.CopyFrom(numpy_helper.from_array(values, weight.name))
    onnx.save(model, root / "bad.onnx")
    return root


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve images of three classes, and one file that is none."""
    root = tmp_path_factory.mktemp("images")
    draw = np.random.default_rng(0)
    for i in range(12):
        place = root / f"class_{i % 3}" / f"{i}.png"
        place.parent.mkdir(exist_ok=True)
        small = draw.integers(0, 256, (5, 5, 3), dtype=np.uint8)
        Image.fromarray(small).resize((40, 36), Image.Resampling.BICUBIC).save(place)
    (root / "class_0" / "broken.png").write_bytes(b"no image")
    return root


def run(folder: Path, reference: str, candidate: str, *options: object) -> Result:
    arguments = [folder / reference, folder / candidate, *options]
    return runner.invoke(app, ["check", *map(str, arguments)], catch_exceptions=True)


def exit_code(result: Result) -> int:
    """What the command's boundary makes of the result."""
    return result.exception.exit_code if isinstance(result.exception, GspDeployError) else (
        result.exit_code
    )  # fmt: skip


def test_an_honest_export_passes(folder: Path, images: Path) -> None:
    result = run(folder, "model.safetensors", "good.onnx", "--images", images)
    assert exit_code(result) == 0, result.output
    assert "12 of 12 hold" in result.stdout
    assert "FAILED" not in result.stdout
    assert "skipped 1 image that" in result.stderr
    assert max(map(len, result.stdout.splitlines())) <= WIDTH


def test_a_changed_weight_fails_with_exit_code_3(folder: Path, images: Path) -> None:
    result = run(folder, "model.safetensors", "bad.onnx", "--images", images)
    assert isinstance(result.exception, GateError)
    assert exit_code(result) == 3
    assert "cosine distance" in str(result.exception)
    assert "expected at most 1.0e-07" in str(result.exception)
    assert "FAILED" in result.stdout  # the table comes before the verdict


def test_the_document_is_whole_and_alone_on_stdout(folder: Path, images: Path) -> None:
    result = run(folder, "model.safetensors", "bad.onnx", "--images", images, "--json")
    assert exit_code(result) == 3
    data = json.loads(result.stdout)
    assert (data["document"], data["version"], data["passed"]) == ("check", 1, False)
    assert data["images"] == 12
    assert "broken.png" in data["skipped"][0]
    assert data["retrieval"]["reference"]["recall_at_1"] is not None
    failed = {gate["name"] for gate in data["gates"] if not gate["passed"]}
    assert {"max_cosine_distance", "max_embedding_error"} <= failed


def test_limits_can_be_widened_one_by_one(folder: Path, images: Path) -> None:
    names = ("cosine-distance", "embedding-error", "attribute-error", "weight-error")
    limits = [word for name in names for word in (f"--max-{name}", "inf")]
    shares = ["--max-flips", 1, "--min-overlap", 0, "--max-recall-drop", 1, "--max-map-drop", 1]
    everything = [*limits, *shares, "--images", images]
    assert exit_code(run(folder, "model.safetensors", "bad.onnx", *everything)) == 0
    narrowed = [*everything, "--max-leak", 0, "--max-cosine-distance", 1e-30]
    result = run(folder, "model.safetensors", "good.onnx", *narrowed)
    assert "1 of 12 gates failed: cosine distance" in str(result.exception)


def test_labels_can_be_switched_off(folder: Path, images: Path) -> None:
    options = ["--images", images, "--labels", "none", "--json"]
    data = json.loads(run(folder, "model.safetensors", "good.onnx", *options).stdout)
    assert "reference" not in data["retrieval"]
    assert len(data["gates"]) == 10


def test_several_sources_and_a_limit(folder: Path, images: Path) -> None:
    options = [
        "--images", images / "class_1", "--images", images / "class_2", "--limit", 6, "--json",
    ]  # fmt: skip
    data = json.loads(run(folder, "model.safetensors", "good.onnx", *options).stdout)
    assert [Path(name).parent.name for name in data["ids"]] == ["class_1"] * 4 + ["class_2"] * 2


def test_layers_name_the_changed_node(folder: Path, images: Path) -> None:
    result = run(folder, "good.onnx", "bad.onnx", "--images", images, "--layers")
    assert exit_code(result) == 3
    assert "first diverges at node node_Conv" in str(result.exception)
    assert f"module {CORRUPTED} +" in str(result.exception)
    marked = next(line for line in result.stdout.splitlines() if "> " in line)
    assert CORRUPTED in marked
    assert max(map(len, result.stdout.splitlines())) <= WIDTH


def test_layers_as_a_document(folder: Path, images: Path) -> None:
    options = ["--images", images, "--layers", "--json", "--limit", 4]
    data = json.loads(run(folder, "model.safetensors", "good.onnx", *options).stdout)
    assert (data["document"], data["passed"], data["images"]) == ("check-layers", True, 4)
    assert data["first_divergent"] is None
    assert len(data["nodes"]) > 20


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--labels", "names"], "--labels expects folder or none, got 'names'"),
        (["--device", "tpu"], "device must be cpu, cuda or cuda:N, got 'tpu'"),
        (["--ref-provider", "cpu"], "takes no provider"),
    ],
)
def test_wrong_use_is_one_readable_line(
    folder: Path, images: Path, options: list[str], message: str
) -> None:
    result = run(folder, "model.safetensors", "good.onnx", "--images", images, *options)
    assert isinstance(result.exception, UsageError)
    assert exit_code(result) == 2
    assert message in str(result.exception)


def test_strict_stops_at_a_broken_image(folder: Path, images: Path) -> None:
    result = run(folder, "model.safetensors", "good.onnx", "--images", images, "--strict")
    assert exit_code(result) == 1
    assert "broken.png: not an image" in str(result.exception)


def test_layers_need_an_onnx_candidate(folder: Path, images: Path) -> None:
    result = run(folder, "good.onnx", "model.safetensors", "--images", images, "--layers")
    assert exit_code(result) == 2
    assert "needs an .onnx as the candidate" in str(result.exception)
