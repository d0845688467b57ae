"""One image finds a model with fitting weights that cannot embed images."""

from __future__ import annotations

import pytest
import torch

from gsp_deploy.checkpoint import check_runs
from gsp_deploy.config import GSPConfig, ModelConfig, PreprocessingSpec
from gsp_deploy.errors import CheckpointError
from gsp_deploy.model import EmbeddingModel


def model_of(backbone: str, channels: int, side: int) -> EmbeddingModel:
    torch.manual_seed(0)
    spec = PreprocessingSpec(side, side)
    return EmbeddingModel(ModelConfig(backbone, GSPConfig(channels, 8, 4), spec)).eval()


def test_models_that_run_pass() -> None:
    check_runs(model_of("test_resnet", 96, 40), "m.pt")
    check_runs(EmbeddingModel(ModelConfig("features", GSPConfig(5, 8, 4), None)).eval(), "m.pt")


def test_a_backbone_without_locations_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    model = model_of("test_resnet", 96, 40)
    monkeypatch.setattr(model.backbone, "forward_features", lambda x: torch.zeros(len(x), 96))
    monkeypatch.setattr(model.backbone, "forward_intermediates", lambda x, **_: [x.mean((2, 3))])
    with pytest.raises(CheckpointError, match=r"m.pt: backbone test_resnet: it yields \(1, 3\)"):
        check_runs(model, "m.pt")


def test_a_size_that_the_backbone_is_not_made_for_is_refused() -> None:
    model = model_of("test_vit", 64, 40)
    with pytest.raises(
        CheckpointError,
        match=r"m.pt: backbone test_vit takes images with sides that are multiples of 16; yours",
    ):
        check_runs(model, "m.pt")


def test_an_embedding_of_nan_is_refused() -> None:
    model = model_of("test_resnet", 96, 40)
    with torch.no_grad():
        model.head.embed.weight.fill_(torch.finfo(torch.float32).max)
    with pytest.raises(CheckpointError, match="as NaN or infinity"):
        check_runs(model, "m.pt")
