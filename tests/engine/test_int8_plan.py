"""TensorRT-RTX builds the same int8 graph that ONNX Runtime runs, unchanged."""

from __future__ import annotations

from pathlib import Path

import gsp_deploy_models
import numpy as np

from gsp_deploy import load_checkpoint
from gsp_deploy.engine.api import TensorRT
from gsp_deploy.engine.build import build_engine
from gsp_deploy.engine.options import BuildOptions
from gsp_deploy.export import ExportOptions, QuantisationImages, export_onnx
from gsp_deploy.export.calibration import Calibration
from gsp_deploy.runtime import open_session


def test_the_quantised_graph_builds_and_runs(rtx: TensorRT, tmp_path: Path) -> None:
    model = load_checkpoint(Path(gsp_deploy_models.__file__).parent / "glyphs-lite0.safetensors")
    spec = model.config.preprocessing
    images = np.random.default_rng(0).integers(0, 256, (8, spec.height, spec.width, 3), np.uint8)
    noise = Calibration(images, "noise", spec)
    options = ExportOptions(precision="int8", iterations=2, max_drop=99)
    onnx = tmp_path / "model.onnx"
    record = export_onnx(
        model, onnx, options, quantisation=QuantisationImages(noise, noise)
    ).manifest.quantisation
    built = build_engine(onnx, tmp_path / "model.engine", BuildOptions(targets=("8.6", "12.0")))
    precision = built.manifest.precision
    assert precision.asked == "int8"
    assert precision.layers["int8"] >= record.layers == 33
    with open_session(onnx) as session:
        assert np.isfinite(session.embed(images)).all()
