"""Fixtures that several test modules share."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

GOLDEN = Path(__file__).parent / "golden"


@pytest.fixture(scope="session", autouse=True)
def _few_threads() -> None:
    """Small tensors: a second thread costs more than it gives, and on a busy machine everything."""
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def golden() -> Path:
    """The folder of vectors recorded from the authors' layers."""
    return GOLDEN


@pytest.fixture(scope="session")
def tiny_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of a small untrained model: 32 px, 8-D, 4 prototypes."""
    from gsp_deploy import EmbeddingModel, GSPConfig, ModelConfig, PreprocessingSpec
    from gsp_deploy.checkpoint import save_checkpoint
    from gsp_deploy.model import feature_channels

    torch.manual_seed(0)
    spec = PreprocessingSpec(32, 32)
    channels = feature_channels("test_resnet", {}, spec)
    head = GSPConfig(channels, embedding_dim=8, num_prototypes=4, solver="newton")
    path = tmp_path_factory.mktemp("checkpoint") / "tiny.safetensors"
    save_checkpoint(EmbeddingModel(ModelConfig("test_resnet", head, spec)), path)
    return path


@pytest.fixture(scope="session")
def tiny_export(tiny_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The tiny checkpoint as ONNX, three Newton steps, embedding alone."""
    from gsp_deploy import load_checkpoint
    from gsp_deploy.export import ExportOptions, export_onnx

    path = tmp_path_factory.mktemp("onnx") / "tiny.onnx"
    export_onnx(load_checkpoint(tiny_checkpoint), path, ExportOptions(iterations=3))
    return str(path)
