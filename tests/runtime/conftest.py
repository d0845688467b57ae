"""Exported heads and a checkpoint to open, as small as they come, and engines made of doubles."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from engine_bench import Bench, profile

from gsp_deploy import EmbeddingModel, GSPConfig, ModelConfig, open_session
from gsp_deploy.checkpoint import save_checkpoint
from gsp_deploy.export import Calibration, ExportOptions, export_onnx
from gsp_deploy.runtime.batching import InputProfile


@pytest.fixture(scope="session")
def features() -> np.ndarray:
    """Feature maps (7, 6, 3, 4)."""
    draw = np.random.default_rng(0)
    return np.abs(draw.standard_normal((7, 6, 3, 4))).astype(np.float32)


@pytest.fixture(scope="session")
def head() -> EmbeddingModel:
    torch.manual_seed(0)
    config = GSPConfig(6, 5, 4, solver="newton")
    return EmbeddingModel(ModelConfig("features", config, None)).eval()


@pytest.fixture(scope="session")
def head_checkpoint(head: EmbeddingModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("head") / "head.safetensors"
    save_checkpoint(head, path)
    return path


@pytest.fixture(scope="session")
def head_export(
    head: EmbeddingModel, features: np.ndarray, tmp_path_factory: pytest.TempPathFactory
) -> Callable[..., Path]:
    """Return a function that exports the head with all outputs, once for each set of options."""
    folder, done = tmp_path_factory.mktemp("heads"), {}

    def export(**options: object) -> Path:
        asked = ExportOptions(**{"outputs": ("attributes", "weights"), "iterations": 8, **options})
        if asked not in done:
            path, calibration = folder / f"{len(done)}.onnx", Calibration(features, "7 maps", None)
            done[asked] = export_onnx(head, path, asked, calibration).path
        return done[asked]

    return export


@pytest.fixture
def make_bench(head_export):
    """Return a function that puts the exported head on a bench, as an engine with some profiles."""

    def build(
        *profiles: InputProfile, device=None, precision: str = "fp32", outputs=None, **engine
    ) -> Bench:
        asked = {} if outputs is None else {"outputs": outputs}
        path = head_export(**asked, **({} if precision == "fp32" else {"io_precision": precision}))
        return Bench(path, profiles or (profile(1, 4, 8),), device, **engine)

    return build


@pytest.fixture
def expected(head_export):
    """What ONNX Runtime itself says."""
    with open_session(head_export()) as session:
        yield session
