"""The device and the starting weights of a run."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from gsp_deploy import EmbeddingModel, GSPConfig, ModelConfig, PreprocessingSpec
from gsp_deploy.backbones import BNInception
from gsp_deploy.checkpoint import save_checkpoint
from gsp_deploy.errors import ConfigError, MissingCapabilityError
from gsp_deploy.model import feature_channels
from gsp_deploy.training.assembly import choose_device, set_training_mode, start_bn_inception
from gsp_deploy.training.distributed import World


@pytest.fixture
def devices(monkeypatch: pytest.MonkeyPatch):
    """Return a function that says how many CUDA devices torch finds, and returns a list of the
    numbers of those that torch is set to from then on.
    """
    chosen: list[int] = []

    def have(count: int) -> list[int]:
        monkeypatch.setattr(torch.cuda, "is_available", lambda: count > 0)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
        monkeypatch.setattr(torch._C, "_cuda_setDevice", chosen.append, raising=False)
        monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
        return chosen

    return have


@pytest.mark.parametrize(
    ("count", "asked", "world", "taken"),
    [
        (0, "auto", World(), "cpu"),
        (2, "auto", World(), "cuda:0"),
        (1, "cuda", World(), "cuda:0"),
        (2, "cpu", World(), "cpu"),
        (2, "cuda:1", World(), "cuda:1"),
        (0, "auto", World(1, 2), "cpu"),
        (2, "cuda", World(1, 4), "cuda:1"),
        (2, "auto", World(2, 4), "cuda:0"),
        (1, "cuda", World(3, 4), "cuda:0"),
    ],
)
def test_the_device_that_is_taken_is_the_one_that_torch_is_set_to(
    devices, count: int, asked: str, world: World, taken: str
) -> None:
    chosen = devices(count)
    device = torch.device(taken)
    assert choose_device(asked, world) == device
    assert chosen == ([] if device.index is None else [device.index])


@pytest.mark.parametrize(
    ("count", "asked", "world", "error", "words"),
    [
        (0, "cuda", World(), MissingCapabilityError, "no CUDA device; use run.device = cpu"),
        (0, "cuda:1", World(), MissingCapabilityError, "no CUDA device; use run.device = cpu"),
        (
            1,
            "cuda:1",
            World(),
            MissingCapabilityError,
            "is cuda:1, but torch finds 1 CUDA device; use a lower number",
        ),
        (2, "mps", World(), MissingCapabilityError, "is mps, but torch finds none; use cpu"),
        (2, "cuda:1", World(0, 2), ConfigError, "is cuda:1 for 2 processes; use run.device = cuda"),
    ],
)
def test_a_device_that_cannot_be_taken_is_refused_before_torch_is_set(
    devices, count: int, asked: str, world: World, error: type[Exception], words: str
) -> None:
    chosen = devices(count)
    with pytest.raises(error, match=words):
        choose_device(asked, world)
    assert chosen == []


def bn_inception(seed: int) -> EmbeddingModel:
    torch.manual_seed(seed)
    spec = PreprocessingSpec(64, 64)
    head = GSPConfig(feature_channels("bn_inception", {}, spec), 8, 4)
    return EmbeddingModel(ModelConfig("bn_inception", head, spec)).eval()


@pytest.fixture(scope="module")
def other() -> EmbeddingModel:
    return bn_inception(1)


def test_bn_inception_starts_from_a_checkpoint_of_ours(other, tmp_path: Path) -> None:
    save_checkpoint(other, tmp_path / "other.safetensors")
    model = bn_inception(2)
    start_bn_inception(model, str(tmp_path / "other.safetensors"))
    image = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(model(image).embedding, other(image).embedding)


def test_bn_inception_starts_from_its_published_weights(other, tmp_path: Path) -> None:
    """They take BGR: what the network makes of an image is what it made of the other order."""
    weights = other.backbone.state_dict()
    published = {**weights, "last_linear.weight": torch.zeros(1000, 1024)}
    torch.save(published, tmp_path / "bn_inception-52deb4733.pth")
    model = bn_inception(2)
    start_bn_inception(model, str(tmp_path / "bn_inception-52deb4733.pth"))
    assert isinstance(model.backbone, BNInception)
    image = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(model.backbone(image), other.backbone(image.flip(1)))


def test_frozen_batch_norms_keep_everything_and_the_rest_trains(other) -> None:
    model = bn_inception(3)
    for frozen in (False, True):
        set_training_mode(model, frozen)
        norms = [m for m in model.modules() if isinstance(m, torch.nn.BatchNorm2d)]
        others = [m for m in model.modules() if isinstance(m, torch.nn.Conv2d)]
        assert {norm.training for norm in norms} == {not frozen}
        assert {p.requires_grad for norm in norms for p in norm.parameters()} == {not frozen}
        assert {module.training for module in others} == {True}
        assert all(p.requires_grad for module in others for p in module.parameters())
