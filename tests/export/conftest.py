"""Small models to export, and the images and features that they are exported with."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from gsp_deploy import EmbeddingModel, GSPConfig, ModelConfig, PreprocessingSpec, open_session
from gsp_deploy.config import BaselineConfig
from gsp_deploy.export import Calibration, ExportOptions, default_calibration, export_onnx

CHANNELS = 12


@pytest.fixture(scope="session")
def features() -> np.ndarray:
    """Feature maps (5, 12, 3, 4), half-normal as after a ReLU."""
    draw = np.random.default_rng(0)
    return np.abs(draw.standard_normal((5, CHANNELS, 3, 4))).astype(np.float32)


@pytest.fixture(scope="session")
def calibration(features: np.ndarray) -> Calibration:
    return Calibration(features, "5 feature maps", None)


@pytest.fixture(scope="session")
def build_head() -> Callable[..., EmbeddingModel]:
    """Return a function that builds a head alone, GSP or with `baseline=True` a baseline."""

    def build(*, seed: int = 0, baseline: bool = False, **settings: object) -> EmbeddingModel:
        torch.manual_seed(seed)
        sizes = {"in_channels": CHANNELS, "embedding_dim": 7}
        if baseline:
            head: GSPConfig | BaselineConfig = BaselineConfig(**{**sizes, **settings})
        else:
            head = GSPConfig(**{**sizes, "num_prototypes": 5, "solver": "newton", **settings})
        model = EmbeddingModel(ModelConfig("features", head, None)).eval()
        if head.bias:
            torch.nn.init.normal_(model.head.embed.bias, std=0.3)
        return model

    return build


@pytest.fixture
def export_head(tmp_path: Path, calibration: Calibration) -> Callable[..., Path]:
    """Return a function that exports a head alone and returns the file."""

    def export(model: EmbeddingModel, **options: object) -> Path:
        fits = model.config.head.in_channels == CHANNELS
        images = calibration if fits else default_calibration(model.config, 4)
        return export_onnx(model, tmp_path / "head.onnx", ExportOptions(**options), images).path

    return export


@pytest.fixture(scope="session")
def conv_model() -> EmbeddingModel:
    """Six convolutions at stride 8 and a GSP head; images of 40 x 48."""
    torch.manual_seed(0)
    spec = PreprocessingSpec(40, 48, (0.4, 0.5, 0.6), (0.2, 0.25, 0.3))
    head = GSPConfig(32, 16, 8, solver="newton")
    model = EmbeddingModel(ModelConfig("small_cnn_s8", head, spec, {"width": 8}))
    model.train()
    for _ in range(3):  # batch norms that have seen something
        model(torch.randn(8, 3, 40, 48))
    return model.eval()


@pytest.fixture(scope="session")
def photographs(conv_model: EmbeddingModel) -> Calibration:
    return default_calibration(conv_model.config, 6)


@pytest.fixture(scope="session")
def exported(
    conv_model: EmbeddingModel, photographs: Calibration, tmp_path_factory: pytest.TempPathFactory
) -> Callable[..., Path]:
    """Return a function that exports the convolutional model, once for each set of options."""
    folder, done = tmp_path_factory.mktemp("exported"), {}

    def export(**options: object) -> Path:
        asked = ExportOptions(outputs=("attributes", "weights"), **options)
        if asked not in done:
            path = folder / f"model{len(done)}.onnx"
            done[asked] = export_onnx(conv_model, path, asked, photographs).path
        return done[asked]

    return export


@torch.inference_mode()
def torch_outputs(model: EmbeddingModel, inputs: np.ndarray) -> dict[str, np.ndarray]:
    """Return what PyTorch computes, by output name."""
    found = model(torch.from_numpy(inputs))._asdict()
    return {name: value.numpy() for name, value in found.items() if value is not None}


def onnx_outputs(path: Path, inputs: np.ndarray) -> dict[str, np.ndarray]:
    """Return what ONNX Runtime computes, by output name."""
    with open_session(path) as session:
        return session.run(inputs)


def worst_errors(found: dict[str, np.ndarray], expected: dict[str, np.ndarray]) -> dict[str, float]:
    """Return the worst error of each output, relative to the output's largest value."""
    return {
        name: float(np.abs(found[name] - expected[name]).max() / np.abs(expected[name]).max())
        for name in found
    }


@pytest.fixture(scope="session")
def errors_against_torch() -> Callable[[Path, EmbeddingModel, np.ndarray], dict[str, float]]:
    """Return a function: worst relative error of each output of a file against its model."""

    def errors(path: Path, model: EmbeddingModel, inputs: np.ndarray) -> dict[str, float]:
        return worst_errors(onnx_outputs(path, inputs), torch_outputs(model, inputs))

    return errors
