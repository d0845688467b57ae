"""int8: what stays in float32, what that does to retrieval, and that nothing of it is by chance."""

from __future__ import annotations

import math
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from pytorch_metric_learning.utils.accuracy_calculator import AccuracyCalculator

from gsp_deploy import EmbeddingModel, GSPConfig, ModelConfig, open_session
from gsp_deploy.artifact import ExportManifest, read_sidecar
from gsp_deploy.base.environment import has_vnni, keep_int8_exact
from gsp_deploy.errors import UsageError
from gsp_deploy.export import ExportOptions, export_onnx, quantisation_images
from gsp_deploy.export.quantisation import range_cache
from gsp_deploy.metrics import cosine_distances
from gsp_deploy.precision import tolerances_for
from gsp_deploy.runtime import SessionOptions
from gsp_deploy.runtime.openvino_model import compile_model, read_model

from .gratings import LABELS, SABOTAGED, SPEC, gratings, small_model


def manifest_of(path: Path) -> ExportManifest:
    manifest = read_sidecar(path)
    assert manifest is not None
    return manifest


def test_only_the_layers_around_the_outlier_stay_in_float32(int8_export: Path) -> None:
    record = manifest_of(int8_export / "int8.onnx").quantisation
    assert record is not None
    assert sorted(layer.layer for layer in record.float_layers) == sorted(SABOTAGED)
    sensitivities = [layer.sensitivity for layer in record.float_layers]
    assert sensitivities == sorted(sensitivities, reverse=True)
    assert min(sensitivities) > 0.1
    all_int8 = record.trials[0]
    assert all_int8.float_layers == 0
    assert record.float32_score - all_int8.score > 5  # the outlier did ruin it
    assert record.passed
    assert record.drop <= record.max_drop == 1.0


@pytest.mark.parametrize(("file", "field"), [("float", "float32_score"), ("int8", "score")])
def test_scores_are_what_another_library_measures(int8_export: Path, file: str, field: str) -> None:
    with open_session(int8_export / f"{file}.onnx") as session:
        embeddings = torch.from_numpy(session.embed(gratings()))
    calculator = AccuracyCalculator(
        include=("mean_average_precision_at_r",), k="max_bin_count", device=torch.device("cpu")
    )
    found = calculator.get_accuracy(embeddings, torch.from_numpy(LABELS))
    record = manifest_of(int8_export / "int8.onnx").quantisation
    expected = 100 * found["mean_average_precision_at_r"]
    assert getattr(record, field) == pytest.approx(expected, abs=1e-3)


def test_openvino_computes_the_layers_in_int8(int8_export: Path) -> None:
    path = int8_export / "int8.onnx"
    with open_session(path) as session, open_session(path, runtime="openvino", threads=1) as other:
        assert (other.info.precision, other.info.device) == (
            "int8",
            "CPU, computes in int8 and float32",
        )
        assert other.info.device == "CPU, computes in int8 and float32"
        distances = cosine_distances(other.embed(gratings()), session.embed(gratings()))
    if has_vnni():  # without it, OpenVINO's products saturate
        assert np.median(distances) < 1e-4
    assert distances.max() < tolerances_for("int8").max_cosine_distance
    options = SessionOptions(runtime="openvino", threads=1)
    compiled = compile_model(path, read_model(path), "fp32", options)
    details = [node.get_rt_info() for node in compiled.get_runtime_model().get_ordered_ops()]
    layers = [d for d in details if d["layerType"].astype(str) == "Convolution"]
    types = [d["runtimePrecision"].astype(str) for d in layers]
    record = manifest_of(path).quantisation
    assert sum(kind in ("u8", "i8") for kind in types) >= record.layers - len(record.float_layers)


def test_neighbour_overlap_is_what_it_says(int8_export: Path) -> None:
    nearest = []
    for file in ("float.onnx", "int8.onnx"):
        with open_session(int8_export / file) as session:
            points = session.embed(gratings()).astype(np.float64)
        distances = np.linalg.norm(points[:, None] - points[None], axis=2)
        np.fill_diagonal(distances, np.inf)
        nearest.append(np.argsort(distances, axis=1)[:, :10])
    shared = [len(set(a) & set(b)) / 10 for a, b in zip(*nearest, strict=True)]
    record = manifest_of(int8_export / "int8.onnx").quantisation
    assert record is not None
    assert record.neighbour_overlap == pytest.approx(100 * np.mean(shared), abs=0.3)


def test_the_manifest_in_the_file_says_the_same(int8_export: Path) -> None:
    path = int8_export / "int8.onnx"
    with open_session(path) as session:
        inside = session.info.manifest
    assert inside is not None
    beside = manifest_of(path)
    assert inside.precision == "int8"
    assert inside.quantisation == beside.quantisation
    assert ExportManifest.from_json(beside.to_json(), path) == beside
    assert beside.certificate is not None
    assert beside.certificate.worst_relative_weight_error < 1e-3


def test_the_same_export_twice_gives_the_same_bytes(
    int8_export: Path, gratings_folder: Path, tmp_path: Path, calibrations: Callable[[], int]
) -> None:
    """Once with the ranges measured, once with the ranges read."""
    shutil.copy(range_cache.cache_path(int8_export / "int8.onnx"), tmp_path)
    options = ExportOptions(
        precision="int8", max_drop=1.0, include_preprocessing=True, iterations=6
    )
    again = tmp_path / "int8.onnx"
    images = quantisation_images(gratings_folder, SPEC)
    export_onnx(small_model(sabotaged=True), again, options, quantisation=images)
    assert calibrations() == 0
    assert again.read_bytes() == (int8_export / "int8.onnx").read_bytes()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"io_precision": "int8"}, "io_precision"),
        ({"calibration_method": "mean"}, "min-max, percentile, entropy"),
        ({"max_drop": -0.1}, "max_drop"),
        ({"max_drop": math.nan}, "max_drop"),
    ],
)
def test_options_are_refused(settings: dict, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        ExportOptions(precision="int8", **settings)


def test_int8_wants_images_and_a_backbone(tmp_path: Path) -> None:
    options = ExportOptions(precision="int8")
    with pytest.raises(UsageError, match="--calibrate"):
        export_onnx(small_model(sabotaged=False), tmp_path / "model.onnx", options)
    head = EmbeddingModel(ModelConfig("features", GSPConfig(8, embedding_dim=4), None))
    with pytest.raises(UsageError, match="head alone"):
        export_onnx(head, tmp_path / "model.onnx", options)
    assert os.listdir(tmp_path) == []


def test_sessions_run_unsigned_integers_and_get_the_same_embeddings(int8_export: Path) -> None:
    path, images = int8_export / "int8.onnx", gratings()
    with open_session(path, threads=1) as session:
        found = session.embed(images)
    settings = onnxruntime.SessionOptions()
    keep_int8_exact(settings)
    raw = onnxruntime.InferenceSession(path, settings, providers=["CPUExecutionProvider"])
    expected = raw.run(["embedding"], {raw.get_inputs()[0].name: images})[0]
    spread = np.linalg.norm(expected - expected.mean(axis=0), axis=1).mean()
    assert np.linalg.norm(found - expected, axis=1).max() <= 1e-4 * spread


def test_without_the_onnx_package_the_file_runs_as_it_is(int8_export: Path, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "gsp_deploy.artifact.unsigned", None)
    with open_session(int8_export / "int8.onnx") as session:
        assert session.embed(gratings()[:2]).shape[0] == 2
