"""A manifest is read back as it was written, and a damaged one is refused in one line."""

from __future__ import annotations

import dataclasses
import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gsp_deploy.artifact import (
    ExportManifest,
    FloatLayer,
    QuantisationRecord,
    QuantisationTrial,
    SolverCertificate,
    TensorSpec,
    WeightGuarantee,
    read_sidecar,
    sidecar_path,
    write_sidecar,
)
from gsp_deploy.config import BaselineConfig, GSPConfig, ModelConfig, PreprocessingSpec
from gsp_deploy.errors import ModelFileError

SPEC = PreprocessingSpec(32, 48, (0.1, 0.2, 0.3))
MODEL = ModelConfig("resnet18", GSPConfig(512, 8, 4), SPEC, {"output_stride": 16})
FULL = ExportManifest(
    model=MODEL,
    precision="int8",
    opset=18,
    inputs=(TensorSpec("images", "uint8", ("batch", 32, 48, 3)),),
    outputs=(TensorSpec("embedding", "float32", ("batch", 8)),),
    includes_preprocessing=True,
    certificate=SolverCertificate("newton", 3, 1e-4, 32, "32 crops", 1e-7, 2e-6, 3e-5),
    kept_in_float32={"Resize": "no form"},
    versions={"torch": "2.14"},
    source_sha256="ab" * 32,
    provenance={"license": "MIT", "metrics": {"R@1": 0.5}},
    external_data="model.onnx.data",
    quantisation=QuantisationRecord(
        "min-max", "9 images", 20, (FloatLayer("stem", "node_conv", "Conv", 0.25),), "MAP@R",
        "90 images", 51.0, 50.8, 99.0, 0.5, (QuantisationTrial(0, 40.0),), ("a note",),
    ),
    sha256="cd" * 32,
)  # fmt: skip
SMALL = ExportManifest(
    model=ModelConfig("features", BaselineConfig(6, 4), None),
    precision="fp32",
    opset=17,
    inputs=(TensorSpec("features", "float16", (1, 6, "height", "width")),),
    outputs=(TensorSpec("embedding", "float32", (1, 4)),),
    includes_preprocessing=False,
    certificate=None,
)


@pytest.mark.parametrize("manifest", [FULL, SMALL], ids=["full", "small"])
def test_round_trip(manifest: ExportManifest, tmp_path: Path) -> None:
    assert ExportManifest.from_json(manifest.to_json(), "x") == manifest
    path = write_sidecar(manifest, tmp_path / "model.onnx")
    assert path == tmp_path / "model.onnx.json" == sidecar_path(tmp_path / "model.onnx")
    assert read_sidecar(tmp_path / "model.onnx") == manifest
    assert manifest.preprocessing == manifest.model.preprocessing


def test_the_same_manifest_is_the_same_text() -> None:
    assert FULL.to_json() == dataclasses.replace(FULL).to_json()
    assert json.loads(FULL.to_json())["format"] == 1


def test_a_model_without_a_sidecar(tmp_path: Path) -> None:
    assert read_sidecar(tmp_path / "model.onnx") is None


def refused(text: str, *named: str) -> None:
    with pytest.raises(ModelFileError) as caught:
        ExportManifest.from_json(text, "model.onnx.json")
    message = str(caught.value)
    assert message.startswith("model.onnx.json: ")
    assert "\n" not in message
    assert len(message) < 400
    assert all(word in message for word in named)


@pytest.mark.parametrize("text", ["", "x", "[]", "1", "{}", "[" * 100_000, "1" * 5000])
def test_text_that_is_no_manifest(text: str) -> None:
    refused(text)


@pytest.mark.parametrize("cut", [0.1, 0.5, 0.99])
def test_truncated_text(cut: float) -> None:
    text = FULL.to_json()
    refused(text[: int(len(text) * cut)], "damaged")


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda d: d.update(format=2), "format 1"),
        (lambda d: d.pop("model"), "model"),
        (lambda d: d.pop("inputs"), "inputs"),
        (lambda d: d.pop("precision"), "precision"),
        (lambda d: d.update(colour="red"), "colour"),
        (lambda d: d.update(opset="18"), "opset"),
        (lambda d: d.update(opset=True), "opset"),
        (lambda d: d.update(includes_preprocessing=1), "includes_preprocessing"),
        (lambda d: d.update(inputs=3), "int"),
        (lambda d: d.update(inputs=["ab"]), "TensorSpec"),
        (lambda d: d["inputs"][0].update(shape=[1, None]), "shape"),
        (lambda d: d["inputs"][0].update(shape=3), "int"),
        (lambda d: d["outputs"][0].update(dtype=None), "dtype"),
        (lambda d: d["model"].update(backbone="hf-hub:a/b"), "timm model name"),
        (lambda d: d["model"]["head"].update(transport_ratio=3), "transport_ratio"),
        (lambda d: d["certificate"].update(steps=1.5), "steps"),
        (lambda d: d["certificate"].update(worst_weight_error="0"), "worst_weight_error"),
        (lambda d: d["certificate"].pop("solver"), "solver"),
        (lambda d: d.update(certificate=[]), "SolverCertificate"),
        (lambda d: d.update(provenance=[]), "provenance"),
        (lambda d: d.update(versions={"torch": 2}), "versions"),
        (lambda d: d.update(external_data=5), "external_data"),
        (lambda d: d.update(external_data="../secret"), "external_data"),
        (lambda d: d.update(external_data="/etc/passwd"), "external_data"),
        (lambda d: d.update(external_data=""), "external_data"),
        (lambda d: d.update(quantisation={}), "float_layers"),
        (lambda d: d["quantisation"].update(score=None), "score"),
        (lambda d: d["quantisation"].update(trials=[{}]), "float_layers"),
    ],
)
def test_wrong_fields_are_named(change: Callable[[dict[str, Any]], object], named: str) -> None:
    data = json.loads(FULL.to_json())
    change(data)
    refused(json.dumps(data), named)


def test_a_damaged_sidecar_is_named(tmp_path: Path) -> None:
    path = sidecar_path(tmp_path / "model.onnx")
    path.write_bytes(b'{"format": 1, "\xff": 2}')
    with pytest.raises(ModelFileError, match=r"model\.onnx\.json: the manifest is damaged"):
        read_sidecar(tmp_path / "model.onnx")


def test_flipped_bits_are_refused_or_read(tmp_path: Path) -> None:
    raw, draw = FULL.to_json().encode(), random.Random(0)
    path = sidecar_path(tmp_path / "model.onnx")
    refusals = 0
    for _ in range(300):
        flipped = bytearray(raw)
        flipped[draw.randrange(len(raw))] ^= 1 << draw.randrange(8)
        path.write_bytes(flipped)
        try:
            read_sidecar(tmp_path / "model.onnx")
        except ModelFileError:
            refusals += 1
    assert refusals > 100


@pytest.mark.parametrize(
    ("shape", "words"),
    [
        (("batch", 3, "height", "width"), "(batch, 3, height, width)"),
        (("batch", "(((height - 1)//8)) + 1"), "(batch, ceil(height/8))"),
        ((1, "((width - 1)//32) + 1", 7), "(1, ceil(width/32), 7)"),
        ((1, "height//16"), "(1, height//16)"),
    ],
)
def test_a_tensor_in_words(shape: tuple[int | str, ...], words: str) -> None:
    """Sizes that convolutions make of others: (n - 1) // 8 + 1 is n / 8, rounded up."""
    assert str(TensorSpec("x", "float32", shape)) == f"x float32 {words}"


def test_a_guarantee_reads_back_and_an_older_manifest_has_none() -> None:
    proved = WeightGuarantee(6e-3, 5e-3, 2e-5, 27.0, 5e-4, 49)
    certificate = dataclasses.replace(FULL.certificate, grid_points=20, guarantee=proved)
    manifest = dataclasses.replace(FULL, certificate=certificate)
    assert ExportManifest.from_json(manifest.to_json(), "m.onnx") == manifest
    assert "for any input" in certificate.guarantee_in_words
    assert certificate.steps_in_words == "newton, 20 points and 3 steps"
    older = json.loads(FULL.to_json())
    for field in ("grid_points", "guarantee"):
        older["certificate"].pop(field)
    read = ExportManifest.from_json(json.dumps(older), "m.onnx")
    assert read == FULL
    assert read.certificate.guarantee_in_words == "none: measured on 32 images"


def test_a_damaged_guarantee_is_refused_in_one_line() -> None:
    data = json.loads(FULL.to_json())
    data["certificate"]["guarantee"] = {"weight_error": "small"}
    with pytest.raises(ModelFileError, match="WeightGuarantee needs 'solver_error'") as caught:
        ExportManifest.from_json(json.dumps(data), "m.onnx")
    assert "\n" not in str(caught.value)
