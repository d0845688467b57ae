"""An `EmbeddingModel` whose backbone is a network of one's own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from torch import Tensor, nn

from gsp_deploy import EmbeddingModel, GeneralizedSumPooling, GSPConfig, PreprocessingSpec
from gsp_deploy.backbones.features import FeatureLayout
from gsp_deploy.checkpoint import save_checkpoint
from gsp_deploy.errors import ConfigError, UsageError

SPEC = PreprocessingSpec(32, 48)
HEAD = GSPConfig(6, 5, 4)


class Body(nn.Module):
    """Returns its map as `answer` arranges it."""

    def __init__(self, answer: Any = lambda x: x) -> None:
        super().__init__()
        self.conv, self.norm, self.answer = nn.Conv2d(3, 6, 8, 8), nn.BatchNorm2d(6), answer

    def forward(self, images: Tensor) -> Any:
        return self.answer(self.norm(self.conv(images)))


ARRANGED: dict[str, tuple[Any, FeatureLayout | None]] = {
    "a map": (lambda x: x, None),
    "channels last": (lambda x: x.permute(0, 2, 3, 1), None),
    "tokens": (lambda x: x.flatten(2).transpose(1, 2), None),
    "a dict": (lambda x: {"low": x.mean(), "features": x}, FeatureLayout(entry="features")),
    "a tuple": (lambda x: (x.mean(), x), FeatureLayout(entry=1)),
    "tokens after a class token": (
        lambda x: torch.cat([x.mean((2, 3))[:, :, None], x.flatten(2)], 2).transpose(1, 2),
        FeatureLayout(channels=(6,), prefix_tokens=1),
    ),
}


@pytest.mark.parametrize("name", ARRANGED)
def test_every_arrangement_pools_the_same(name: str) -> None:
    torch.manual_seed(0)
    answer, layout = ARRANGED[name]
    body, layer = Body(answer).eval(), GeneralizedSumPooling(HEAD)
    model = EmbeddingModel.of(body, layer, SPEC, layout)
    images = torch.rand(2, 3, 32, 48)
    expected = layer(body.norm(body.conv(images)))
    torch.testing.assert_close(model(images).embedding, expected.embedding)
    assert model.head is layer
    assert model.config.backbone == "Body"


def test_timms_own_call_is_used() -> None:
    network = timm.create_model("test_vit", num_classes=9, img_size=(32, 48))
    model = EmbeddingModel.of(network, GSPConfig(network.num_features, 5, 4), SPEC)
    assert model.features(torch.rand(2, 3, 32, 48)).shape == (2, 64, 2, 3)


def test_the_modes_of_the_parts_stay() -> None:
    body = Body().train()
    body.norm.eval()
    mean = body.norm.running_mean.clone()
    EmbeddingModel.of(body, HEAD, SPEC)
    assert (body.training, body.norm.training) == (True, False)
    assert torch.equal(body.norm.running_mean, mean)


BAD = {
    "a vector": (lambda x: x.mean((2, 3)), "needs a feature map"),
    "a dict": (lambda x: {"low": x}, "a dict of low"),
    "other channels": (lambda x: x[:, :4, :, :5], r"the head pools \(batch, 6"),
}


@pytest.mark.parametrize("name", BAD)
def test_features_that_do_not_fit_are_refused_in_one_line(name: str) -> None:
    answer, message = BAD[name]
    with pytest.raises(ConfigError, match=message) as raised:
        EmbeddingModel.of(Body(answer), HEAD, SPEC)
    assert "\n" not in str(raised.value)


def test_a_checkpoint_that_nothing_could_load_is_not_written(tmp_path: Path) -> None:
    model = EmbeddingModel.of(Body(), HEAD, SPEC)
    with pytest.raises(UsageError, match=r"save model\.state_dict"):
        save_checkpoint(model, tmp_path / "m.safetensors")
    assert not list(tmp_path.iterdir())
