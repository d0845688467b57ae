"""Exports to build from: real networks with random weights, and the checkpoint that ships."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path

import gsp_deploy_models
import onnx_ir as ir
import pytest
import torch

from gsp_deploy import EmbeddingModel, GSPConfig, ModelConfig, PreprocessingSpec, load_checkpoint
from gsp_deploy.engine.api import TensorRT, installed_flavours, load_tensorrt
from gsp_deploy.export import ExportOptions, assembly, default_calibration, export_onnx
from gsp_deploy.model import feature_channels

SIZE = 64
SHIPPED = "glyphs-lite0"
# Of the forms that are asked for here, bf16 needs it and the others go with it.
OPSET = 22

Export = Callable[..., Path]


@pytest.fixture(scope="session")
def rtx() -> TensorRT:
    """TensorRT-RTX, which builds without a GPU."""
    if "tensorrt-rtx" not in installed_flavours():
        pytest.skip("TensorRT-RTX is not installed: its wheels are for x86-64 Linux")
    return load_tensorrt("tensorrt-rtx")


@functools.cache
def model_of(name: str) -> EmbeddingModel:
    if name == SHIPPED:
        folder = Path(gsp_deploy_models.__file__).parent
        return load_checkpoint(folder / f"{SHIPPED}.safetensors")
    torch.manual_seed(0)
    spec = PreprocessingSpec(SIZE, SIZE)
    head = GSPConfig(feature_channels(name, {}, spec), 64, 16, solver="newton")
    return EmbeddingModel(ModelConfig(name, head, spec)).eval()


@pytest.fixture(scope="session")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Export:
    """Return a function that exports a model by name, once for each set of options.

    PyTorch's exporter runs once for a backbone and its open sizes; head, precision and certificate
    are written anew each time, as always.
    """
    folder, done, backbones = tmp_path_factory.mktemp("exports"), {}, {}
    real = assembly.export_backbone

    def export_backbone(model, *settings):
        key = (id(model), settings)
        if key not in backbones:
            backbones[key] = ir.to_proto(real(model, *settings))
        return ir.from_proto(backbones[key])  # a clone would share the types that a pass changes

    def export(name: str, **options: object) -> Path:
        asked = ExportOptions(**{"opset": OPSET, "iterations": 4, **options})
        if (name, asked) not in done:
            path, model = folder / f"{name}-{len(done)}.onnx", model_of(name)
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(assembly, "export_backbone", export_backbone)
                export_onnx(model, path, asked, default_calibration(model.config, 1))
            done[name, asked] = path
        return done[name, asked]

    return export
