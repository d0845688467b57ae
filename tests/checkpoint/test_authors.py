"""The authors' state dict: a head under any prefix, with or without a backbone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import save_file
from torch import Tensor

from gsp_deploy.checkpoint import load_checkpoint
from gsp_deploy.config import PreprocessingSpec
from gsp_deploy.errors import CheckpointError, ConfigError, GspDeployError
from gsp_deploy.layers.pooling import k_centre

BACKBONE = "test_resnet"
CHANNELS = 96
SPEC = PreprocessingSpec(48, 48)


@pytest.fixture(scope="module")
def official(golden: Path) -> dict[str, Tensor]:
    state: dict[str, Tensor] = torch.load(golden / "official_head_state_dict.pt", weights_only=True)
    return state


@pytest.fixture(scope="module")
def backbone() -> torch.nn.Module:
    torch.manual_seed(0)
    return timm.create_model(BACKBONE, num_classes=0, global_pool="").eval()


@pytest.fixture(scope="module")
def wide_head() -> dict[str, Tensor]:
    """A head with the authors' names for the channels of the test backbone."""
    torch.manual_seed(1)
    return {
        "embed.weight": torch.randn(8, CHANNELS) / 10,
        "embed.bias": torch.randn(8),
        "prototypes": torch.randn(4, 8),
        "classifier.weight": torch.randn(10, 8),
        "classifier.bias": torch.randn(10),
        "is_proto_inited": torch.tensor(True),
    }


def with_prefix(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {prefix + name: tensor for name, tensor in tensors.items()}


def saved(tensors: object, path: Path) -> Path:
    if path.suffix == ".safetensors":
        save_file(tensors, path)
    else:
        torch.save(tensors, path)
    return path


@pytest.mark.parametrize("suffix", [".pt", ".pth", ".safetensors"])
@pytest.mark.parametrize("prefix", ["", "head.", "module.head.", "a.b.c.pooling."])
def test_the_authors_head_computes_what_they_recorded(
    prefix: str, suffix: str, official: dict[str, Tensor], golden: Path, tmp_path: Path
) -> None:
    model = load_checkpoint(saved(with_prefix(prefix, official), tmp_path / f"head{suffix}"))
    recorded = np.load(golden / "official_head_io.npz")
    with torch.inference_mode():
        out = model(torch.from_numpy(recorded["features"]))
    for name in ("embedding", "attributes"):
        np.testing.assert_allclose(getattr(out, name).numpy(), recorded[name], rtol=1e-5, atol=1e-6)
    assert model.config.is_head_only
    assert not model.training


def test_settings_that_the_file_cannot_know_are_the_authors(
    official: dict[str, Tensor], tmp_path: Path
) -> None:
    head = load_checkpoint(saved(official, tmp_path / "h.pt")).config.head
    assert (head.transport_ratio, head.entropy_weight, head.steps) == (0.3, 0.1, 100)
    assert (head.pooling, head.solver, head.normalize) == ("gmp", "fixed-point", True)
    assert (head.in_channels, head.embedding_dim, head.num_prototypes) == (32, 16, 64)


def test_settings_given_are_taken(official: dict[str, Tensor], tmp_path: Path) -> None:
    head = load_checkpoint(
        saved(official, tmp_path / "h.pt"),
        transport_ratio=0.5,
        entropy_weight=7.0,
        pooling="gap",
        max_residual=True,
        normalize=False,
        solver="newton",
    ).config.head
    assert (head.transport_ratio, head.entropy_weight, head.steps) == (0.5, 7.0, 20)
    assert (head.pooling, head.max_residual, head.normalize) == ("gap", True, False)


@pytest.mark.parametrize("shape", [(), (1,), (1, 1)])
def test_a_power_means_generalised_mean_pooling(
    shape: tuple[int, ...], official: dict[str, Tensor], tmp_path: Path
) -> None:
    path = saved({**official, "power": torch.full(shape, 2.5)}, tmp_path / "h.pt")
    model = load_checkpoint(path)
    assert model.config.head.pooling == "gem"
    assert model.head.power.item() == 2.5
    assert load_checkpoint(path, pooling="gap").head.power is None


def test_a_head_without_bias(official: dict[str, Tensor], tmp_path: Path) -> None:
    without = {name: t for name, t in official.items() if name != "embed.bias"}
    model = load_checkpoint(saved(without, tmp_path / "h.pt"))
    assert not model.config.head.bias
    assert model.head.embed.bias is None


@pytest.mark.parametrize("wrapper", ["state_dict", "model_state_dict", "model"])
def test_a_training_script_may_have_wrapped_it(
    wrapper: str, official: dict[str, Tensor], tmp_path: Path
) -> None:
    model = load_checkpoint(saved({wrapper: official, "epoch": 3}, tmp_path / "h.pt"))
    assert torch.equal(model.head.prototypes, official["prototypes"])


@pytest.mark.parametrize(
    ("body", "head"),
    [("", "head."), ("backbone.", "head."), ("module.model.", "module.gsp."), ("module.", "gsp.")],
)
def test_a_whole_model_under_any_prefixes(
    body: str,
    head: str,
    backbone: torch.nn.Module,
    wide_head: dict[str, Tensor],
    tmp_path: Path,
) -> None:
    state = with_prefix(body, backbone.state_dict()) | with_prefix(head, wide_head)
    path = saved(state, tmp_path / "whole.pt")
    model = load_checkpoint(path, backbone=BACKBONE, preprocessing=SPEC)
    images = torch.rand(2, 3, 48, 48)
    with torch.inference_mode():
        assert torch.equal(model.features(images), backbone.forward_features(images))
    assert torch.equal(model.head.prototypes, wide_head["prototypes"])
    assert model.config.preprocessing == SPEC


def test_a_whole_model_wants_its_backbone_named(
    backbone: torch.nn.Module, wide_head: dict[str, Tensor], tmp_path: Path
) -> None:
    state = backbone.state_dict() | with_prefix("head.", wide_head)
    path = saved(state, tmp_path / "whole.pt")
    with pytest.raises(ConfigError, match="--backbone"):
        load_checkpoint(path)
    with pytest.raises(ConfigError, match="near it"):
        load_checkpoint(path, backbone="test_resnett")
    with pytest.raises(ConfigError, match="512 channels"):
        load_checkpoint(path, backbone="resnet18")
    with pytest.raises(ConfigError, match="timm model name"):
        load_checkpoint(path, backbone="hf-hub:someone/model")


def test_another_architecture_of_the_same_width_is_noticed(
    backbone: torch.nn.Module, wide_head: dict[str, Tensor], tmp_path: Path
) -> None:
    body = backbone.state_dict()
    first = next(iter(body))
    state = with_prefix("head.", wide_head) | body
    for change, named in [
        (lambda d: d.pop(first), "another architecture"),
        (lambda d: d.update({first: d[first][:1]}), first),
    ]:
        changed = dict(state)
        change(changed)
        with pytest.raises(CheckpointError, match=named):
            load_checkpoint(saved(changed, tmp_path / "w.pt"), backbone=BACKBONE)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"power": torch.ones(3)}, "power|shape"),
        ({"embed.bias": torch.ones(3)}, "embed.bias"),
        ({"prototypes": torch.ones(4, 7)}, r"\(4, 7\)"),
        ({"prototypes": torch.ones(3)}, r"\(M, D\)"),
        ({"embed.weight": torch.ones(16, 32, 1, 1)}, r"\(D, C\)"),
        ({"embed.weight": torch.ones(0, 0), "prototypes": torch.ones(2, 0)}, "in_channels|embed"),
        ({"prototypes": torch.full((64, 16), torch.nan)}, "NaN"),
        ({"x.prototypes": torch.ones(4, 16), "x.embed.weight": torch.ones(16, 2)}, "found 2"),
    ],
)
def test_heads_that_do_not_fit_together(
    change: dict[str, Tensor], named: str, official: dict[str, Tensor], tmp_path: Path
) -> None:
    path = saved({**official, **change}, tmp_path / "h.pt")
    with pytest.raises(GspDeployError, match=named) as caught:
        load_checkpoint(path)
    assert "\n" not in str(caught.value)


def test_a_pooling_without_its_power_is_refused(
    official: dict[str, Tensor], tmp_path: Path
) -> None:
    with pytest.raises(CheckpointError, match="power"):
        load_checkpoint(saved(official, tmp_path / "h.pt"), pooling="gem")


def test_settings_outside_their_domain(official: dict[str, Tensor], tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="transport_ratio"):
        load_checkpoint(saved(official, tmp_path / "h.pt"), transport_ratio=7.0)


def test_prototypes_that_were_not_initialised_come_from_the_classifier(wide_head, tmp_path) -> None:
    """Their layer does so at its first step; `k_centre` is held to theirs by the golden vectors."""
    state = {**wide_head, "is_proto_inited": torch.tensor(False)}
    lines: list[str] = []
    model = load_checkpoint(saved(state, tmp_path / "m.pt"), announce=lines.append)
    classes = wide_head["classifier.weight"]
    assert torch.equal(model.head.prototypes, classes[k_centre(classes, 4)])
    assert any("not initialised" in line for line in lines)
    del state["classifier.weight"]
    with pytest.raises(CheckpointError, match="is_proto_inited is false"):
        load_checkpoint(saved(state, tmp_path / "m.pt"))


def test_the_stride_of_the_last_stage_is_asked_for(tmp_path: Path) -> None:
    """A ResNet with last_stride=1, as person re-identification code has it."""
    torch.manual_seed(0)
    theirs = timm.create_model("resnet18", num_classes=0, global_pool="").eval()
    head = {"embed.weight": torch.randn(8, 512) / 9, "prototypes": torch.randn(4, 8)}
    path = saved({**with_prefix("base.", theirs.state_dict()), **head}, tmp_path / "m.pt")
    theirs.layer4[0].conv1.stride = theirs.layer4[0].downsample[0].stride = (1, 1)
    image, lines = torch.randn(1, 3, 64, 64), []
    plain = load_checkpoint(path, backbone="resnet18", preprocessing=SPEC, announce=lines.append)
    assert plain.features(image).shape[-1] == 2
    assert any("--backbone-option last_stride=1" in line for line in lines)
    options = {"last_stride": 1}
    kept = load_checkpoint(path, backbone="resnet18", backbone_options=options, preprocessing=SPEC)
    torch.testing.assert_close(kept.features(image), theirs(image))
    assert kept.config.backbone_options == options
    with pytest.raises(ConfigError, match="last_stride: expected 1 or 2, got 3"):
        load_checkpoint(path, backbone="resnet18", backbone_options={"last_stride": 3})
