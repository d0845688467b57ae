"""Maps: every artifact gives the same ones, and they agree with the transport plan."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from timm.models import register_model
from torch import nn

from gsp_deploy import EmbeddingModel, GSPConfig, ModelConfig, open_session
from gsp_deploy.checkpoint import save_checkpoint
from gsp_deploy.config import BaselineConfig, PreprocessingSpec
from gsp_deploy.errors import UsageError
from gsp_deploy.explain import PoolingMaps, pooling_maps
from gsp_deploy.export import ExportOptions, export_onnx

SPEC = PreprocessingSpec(32, 48)
MU = 0.3


def build(head: GSPConfig | BaselineConfig) -> EmbeddingModel:
    torch.manual_seed(0)
    return EmbeddingModel(ModelConfig("small_cnn_s8", head, SPEC, {"width": 8})).eval()


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("maps") / "model.safetensors"
    save_checkpoint(build(GSPConfig(32, 16, 5, MU, 20.0, solver="newton")), path)
    return path


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (20, 32, 48, 3), dtype=np.uint8)


def maps_of(path: Path, images: np.ndarray) -> PoolingMaps:
    with open_session(path) as session:
        return pooling_maps(session, images)


def test_maps_are_the_layers_own(checkpoint: Path, images: np.ndarray) -> None:
    maps = maps_of(checkpoint, images)
    assert maps.weights.shape == (20, 4, 6)
    assert maps.assignments is not None
    assert maps.assignments.shape == (20, 5, 4, 6)
    np.testing.assert_allclose(maps.assignments.sum(axis=1), 1, atol=1e-6)
    np.testing.assert_allclose(maps.weights.mean(axis=(1, 2)), 1, atol=1e-5)
    assert maps.kept.min() >= 0
    assert maps.kept.max() <= 1
    with open_session(checkpoint) as session:
        attributes = session.run(images, ("attributes",))["attributes"]
    np.testing.assert_allclose(maps.attributes, attributes, atol=1e-6)


@pytest.mark.parametrize(
    "options",
    [
        ExportOptions(iterations=12),
        ExportOptions(iterations=12, outputs=("weights",), dynamic_size=True),
        ExportOptions(iterations=12, include_preprocessing=True),
        ExportOptions(precision="fp16"),
        ExportOptions(iterations=12, pooling_form="plugin"),
    ],
    ids=["no further outputs", "dynamic size", "uint8", "fp16", "plugin"],
)
def test_an_export_gives_the_checkpoints_maps(
    options: ExportOptions, checkpoint: Path, images: np.ndarray, tmp_path: Path
) -> None:
    from gsp_deploy.checkpoint import load_checkpoint

    path = export_onnx(load_checkpoint(checkpoint), tmp_path / "model.onnx", options).path
    expected, found = maps_of(checkpoint, images), maps_of(path, images)
    bound = 1e-4 if options.precision == "fp32" else 0.1
    np.testing.assert_allclose(found.weights, expected.weights, atol=bound)
    np.testing.assert_allclose(found.assignments, expected.assignments, atol=bound)
    assert found.transport_ratio == MU


def test_where_everything_is_kept_the_weights_are_1(images: np.ndarray, tmp_path: Path) -> None:
    model = build(GSPConfig(32, 16, 5, 1.0))
    path = export_onnx(model, tmp_path / "model.onnx", ExportOptions(outputs=("attributes",))).path
    assert (maps_of(path, images).weights == 1).all()


def test_a_head_without_weights_is_refused(images: np.ndarray, tmp_path: Path) -> None:
    model = build(BaselineConfig(32, 16))
    save_checkpoint(model, tmp_path / "gap.safetensors")
    exported = export_onnx(model, tmp_path / "gap.onnx", ExportOptions()).path
    for path in (tmp_path / "gap.safetensors", exported):
        with pytest.raises(
            UsageError, match="gap pooling without transport, so there are no weights"
        ):
            maps_of(path, images)


def test_no_image_is_refused(checkpoint: Path, images: np.ndarray) -> None:
    with pytest.raises(UsageError, match="at least one image"):
        maps_of(checkpoint, images[:0])


class Tokens(nn.Module):
    """Yields tokens, and describes no grid."""

    num_features = 8

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, 8, 8, 8)

    def forward_features(self, images: torch.Tensor) -> torch.Tensor:
        return self.patches(images).flatten(2).transpose(1, 2)


@register_model
def gsp_test_tokens_without_a_grid(**_: Any) -> nn.Module:
    return Tokens()


def test_tokens_without_a_grid_pool_and_have_no_map(tmp_path: Path, images: np.ndarray) -> None:
    config = ModelConfig("gsp_test_tokens_without_a_grid", GSPConfig(8, 4, 3), SPEC)
    model = EmbeddingModel(config).eval()
    save_checkpoint(model, tmp_path / "m.safetensors")
    export_onnx(model, tmp_path / "m.onnx", ExportOptions(outputs=("weights",)))
    found = {}
    for name in ("m.safetensors", "m.onnx"):
        with open_session(tmp_path / name) as session:
            found[name] = session.run(images[:3], ("embedding", "weights"))
            with pytest.raises(UsageError, match=rf"{name}: .* tokens without a grid, so it has"):
                pooling_maps(session, images[:3])
    assert found["m.onnx"]["weights"].shape == (3, 24, 1)
    np.testing.assert_allclose(
        found["m.onnx"]["embedding"], found["m.safetensors"]["embedding"], atol=1e-5
    )
