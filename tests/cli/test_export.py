"""`gsp-deploy export`: what it writes, prints and refuses, and its exit codes."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from PIL import Image

from gsp_deploy import GSPConfig, ModelConfig, load_checkpoint, open_session
from gsp_deploy.artifact import read_sidecar
from gsp_deploy.checkpoint import Provenance, save_checkpoint
from gsp_deploy.model import EmbeddingModel
from gsp_deploy_cli.main import main

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def export(monkeypatch, capsys) -> Run:
    """Return a function that runs the command: exit code, stdout, stderr."""

    def run(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["gsp-deploy", "export", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
        captured = capsys.readouterr()
        code = ended.value.code
        return (code if isinstance(code, int) else 0), captured.out, captured.err

    return run


@pytest.fixture(scope="module")
def official(golden: Path) -> Path:
    return golden / "official_head_state_dict.pt"


def test_a_checkpoint_becomes_a_model_that_runs(
    export: Run, tiny_checkpoint: Path, tmp_path: Path
) -> None:
    output = tmp_path / "out" / "model.onnx"
    code, out, err = export(tiny_checkpoint, "-o", output, "--json", "--also", "weights")
    assert code == 0, err
    document = json.loads(out)
    assert (document["document"], document["version"]) == ("export", 1)
    assert document["path"] == str(output)
    assert document["manifest"] == json.loads(output.with_name("model.onnx.json").read_text())
    assert document["manifest"]["certificate"]["worst_relative_weight_error"] <= 1e-4
    assert f"exporting {tiny_checkpoint.name}" in err
    images = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), np.uint8)
    with open_session(output) as one, open_session(tiny_checkpoint) as other:
        assert set(one.info.outputs) == {"embedding", "weights"}
        np.testing.assert_allclose(one.embed(images), other.embed(images), atol=1e-4)


def test_the_report_tells_shapes_solver_and_certificate(
    export: Run, official: Path, tmp_path: Path
) -> None:
    code, out, _ = export(official, "-o", tmp_path / "m.onnx", "--also", "attributes")
    assert code == 0
    for words in (
        "features float32 (batch, 32, height, width)",
        "embedding float32 (batch, 16)",
        "attributes float32 (batch, 64)",
        "certified,",
        "|mean w - 1|",
        "for any input, float32 rounding included",
        "measured on 32 images (32 random feature maps, every other one near the prototypes",
    ):
        assert words in " ".join(out.split())


def test_the_authors_head_needs_no_options(export: Run, official: Path, tmp_path: Path) -> None:
    """At the defaults for both, against what the authors recorded."""
    output = tmp_path / "m.onnx"
    assert export(official, "-o", output)[0] == 0
    recorded = np.load(official.with_name("official_head_io.npz"))
    with open_session(output) as session:
        found = session.embed(recorded["features"])
    assert np.abs(found - recorded["embedding"]).max() / np.abs(recorded["embedding"]).max() < 1e-5


def test_settings_that_a_state_dict_cannot_tell(
    export: Run, official: Path, tmp_path: Path
) -> None:
    output = tmp_path / "m.onnx"
    settings = ("--transport-ratio", "0.5", "--entropy-weight", "7", "--pooling-mode", "gap")
    flags = ("--max-residual", "--no-normalize", "--solver", "fixed-point", "--iterations", "9")
    code, out, _ = export(official, "-o", output, *settings, *flags)
    assert code == 0
    assert "GSP (gap), mu 0.5, gamma 7" in out
    manifest = read_sidecar(output)
    head = manifest.model.head
    assert (head.transport_ratio, head.entropy_weight, head.pooling) == (0.5, 7.0, "gap")
    assert (head.max_residual, head.normalize) == (True, False)
    assert (manifest.certificate.solver, manifest.certificate.steps) == ("fixed-point", 9)


def test_steps_that_are_too_few_are_told(export: Run, tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = EmbeddingModel(ModelConfig("features", GSPConfig(12, 7, 5, entropy_weight=50.0), None))
    save_checkpoint(model, tmp_path / "sharp.safetensors")
    arguments = (tmp_path / "sharp.safetensors", "-o", tmp_path / "m.onnx", "--iterations", "1")
    code, out, err = export(*arguments, "--solver", "newton")
    assert code == 0
    assert "none: measured on 32 images" in out
    assert "note: after 1 newton step the weights are wrong" in err


def test_forms_of_input_and_output(export: Run, tiny_checkpoint: Path, tmp_path: Path) -> None:
    output = tmp_path / "m.onnx"
    flags = ("--include-preprocessing", "--static-batch", "--external-data")
    code, _, err = export(
        tiny_checkpoint, "-o", output, *flags, "--precision", "fp16", "--io-precision", "fp16",
        "--opset", "17", "--iterations", "3",
    )  # fmt: skip
    assert code == 0, err
    manifest = read_sidecar(output)
    assert (manifest.precision, manifest.opset) == ("fp16", 17)
    assert manifest.includes_preprocessing
    assert manifest.inputs[0].shape == (1, 32, 32, 3)
    assert manifest.outputs[0].dtype == "float16"
    assert (tmp_path / "m.onnx.data").is_file()


def test_provenance_travels(export: Run, tiny_checkpoint: Path, tmp_path: Path) -> None:
    checkpoint, output = tmp_path / "told.safetensors", tmp_path / "m.onnx"
    head = EmbeddingModel(ModelConfig("features", GSPConfig(6, 5, 4), None))
    save_checkpoint(head, checkpoint, Provenance(license="CC-BY-4.0", command="train x"))
    assert export(checkpoint, "-o", output)[0] == 0
    found = {entry.key: entry.value for entry in onnx.load(output).metadata_props}
    assert found["gsp_deploy.license"] == "CC-BY-4.0"
    assert read_sidecar(output).provenance["command"] == "train x"


def test_images_to_certify_on(export: Run, tiny_checkpoint: Path, tmp_path: Path) -> None:
    folder = tmp_path / "photographs"
    folder.mkdir()
    draw = np.random.default_rng(0)
    for index in range(3):
        pixels = draw.integers(0, 256, (40, 50, 3), np.uint8)
        Image.fromarray(pixels).save(folder / f"{index}.png")
    (folder / "broken.png").write_bytes(b"x")
    output = tmp_path / "m.onnx"
    assert export(tiny_checkpoint, "-o", output, "--calibrate", folder)[0] == 0
    certificate = read_sidecar(output).certificate
    assert (certificate.images, certificate.calibration) == (3, "3 images of photographs")


def test_a_file_that_is_there_is_replaced_by_force_only(
    export: Run, official: Path, tmp_path: Path
) -> None:
    output = tmp_path / "m.onnx"
    output.write_text("mine")
    code, out, err = export(official, "-o", output, "--force")
    assert (code, out, output.read_text()) == (2, "", "mine")
    assert "gsp-deploy did not make it; choose another name" in err
    output.unlink()
    assert export(official, "-o", output)[0] == 0
    code, out, err = export(official, "-o", output)
    assert (code, out) == (2, "")
    assert "--force" in err
    assert export(official, "-o", output, "--force")[0] == 0
    onnx.checker.check_model(str(output))


@pytest.mark.parametrize(
    ("arguments", "code", "named"),
    [
        (("--precision", "fp8"), 2, "precision must be one of"),
        (("--opset", "16"), 2, "opset must be from 17 to 22"),
        (("--solver", "sinkhorn"), 2, "solver must be one of"),
        (("--also", "logits"), 2, "output must be one of"),
        (("--tolerance", "0"), 2, "tolerance must be between"),
        (("--tolerance", "1e-12"), 1, "--tolerance"),
        (("--pooling-mode", "max"), 2, "--pooling-mode must be one of gap, gmp, gem, got 'max'"),
        (("--transport-ratio", "1.4"), 2, "transport_ratio"),
        (("--backbone", "resnet18", "--image-size", "0"), 2, "height"),
        (("--backbone", "no_such_network"), 2, "no_such_network"),
        (("--include-preprocessing",), 2, "feature maps"),
        (("--calibrate", "."), 2, "a head alone"),
    ],
)
def test_what_cannot_be_done_is_said_in_a_line(
    arguments, code, named, export: Run, official: Path, tmp_path: Path
) -> None:
    found, out, err = export(official, "-o", tmp_path / "m.onnx", *arguments)
    assert (found, out) == (code, "")
    assert named in err
    assert "Traceback" not in err
    lines = [line for line in err.splitlines() if not line.startswith("exporting")]
    assert len(lines) == 1
    assert lines[0].startswith("error: ")
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("content", [b"", b"no checkpoint\n" * 9])
def test_checkpoints_that_are_none(content, export: Run, tmp_path: Path) -> None:
    checkpoint = tmp_path / "broken.safetensors"
    checkpoint.write_bytes(content)
    code, out, err = export(checkpoint, "-o", tmp_path / "m.onnx")
    assert (code, out) == (1, "")
    assert err.count("\n") == 1
    assert "broken.safetensors" in err


def test_a_checkpoint_of_ours_knows_its_backbone(
    export: Run, tiny_checkpoint: Path, tmp_path: Path
) -> None:
    code, _, err = export(tiny_checkpoint, "-o", tmp_path / "m.onnx", "--image-size", "64")
    assert code == 2
    assert "leave those options out" in err
    assert load_checkpoint(tiny_checkpoint).config.preprocessing.height == 32


def test_the_pooling_as_one_node(
    export: Run, tiny_checkpoint: Path, tiny_export: str, tmp_path: Path
) -> None:
    plugin, bare = tmp_path / "plugin.onnx", tmp_path / "bare.onnx"
    code, out, err = export("--from", tiny_export, "--pooling", "plugin", "-o", plugin, "--json")
    assert code == 0, err
    assert json.loads(out)["manifest"]["pooling_form"] == "plugin"
    images = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), np.uint8)
    with open_session(plugin) as one, open_session(tiny_export) as other:
        np.testing.assert_array_equal(one.embed(images), other.embed(images))
    steps = ("--iterations", "3")
    code, out, _ = export(tiny_checkpoint, "--pooling", "plugin", "--bare", "-o", bare, *steps)
    assert code == 0
    assert "TensorRT with the plugin only" in out
    assert not onnx.load(bare).functions


def test_an_export_is_converted_without_its_checkpoint(
    export: Run, tiny_export: str, tmp_path: Path
) -> None:
    low = tmp_path / "low.onnx"
    code, out, err = export("--from", tiny_export, "--precision", "fp16", "-o", low, "--json")
    assert code == 0, err
    manifest = json.loads(out)["manifest"]
    assert (manifest["precision"], manifest["certificate"]["solver"]) == ("fp16", "newton")


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("--from", "EXPORT", "--pooling", "plugin", "--precision", "fp16"), "not both"),
        (("--from", "EXPORT", "--precision", "int8"), "pass --calibrate FOLDER"),
        (("--from", "EXPORT", "--pooling", "plugin", "--opset", "17"), "--opset is settled"),
        (("--from", "EXPORT", "--pooling", "plugin", "CHECKPOINT"), "checkpoint is settled"),
        (("--from", "EXPORT"), "pass --pooling plugin"),
        (("CHECKPOINT", "--bare"), "--bare belongs to --pooling plugin"),
        (("CHECKPOINT", "--pooling", "gmp"), "the authors' mode is --pooling-mode gmp"),
        ((), "expected a checkpoint"),
    ],
)
def test_what_the_form_of_the_pooling_does_not_go_with(
    arguments, reason, export: Run, tiny_checkpoint: Path, tiny_export: str, tmp_path: Path
) -> None:
    named = {"EXPORT": tiny_export, "CHECKPOINT": tiny_checkpoint}
    code, _, err = export(*(named.get(word, word) for word in arguments), "-o", tmp_path / "m.onnx")
    assert code == 2
    assert reason in err
    assert not list(tmp_path.iterdir())
