"""Whatever form a network's features have, they become the map that timm itself restores."""

from __future__ import annotations

import pytest
import timm
import torch
from torch import nn

from gsp_deploy.backbones.features import FeatureLayout, feature_map
from gsp_deploy.config import BaselineConfig, GSPConfig, ModelConfig, PreprocessingSpec
from gsp_deploy.errors import ConfigError
from gsp_deploy.model import EmbeddingModel, feature_channels

SMALL = {"depth": 1, "embed_dim": 24, "num_heads": 2, "num_classes": 0, "global_pool": ""}


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("vit_tiny_patch16_224", {**SMALL, "img_size": (64, 96)}),
        ("vit_small_patch14_reg4_dinov2", {**SMALL, "dynamic_img_size": True, "img_size": 28}),
        (
            "deit_tiny_distilled_patch16_224",
            {**SMALL, "img_size": (64, 96), "global_pool": "token"},
        ),
        ("swin_tiny_patch4_window7_224", {"img_size": (64, 96), "embed_dim": 12, "depths": (1, 1)}),
        ("levit_128s", {"img_size": (64, 96)}),
    ],
)
def test_maps_equal_those_that_timm_restores(name, options) -> None:
    torch.manual_seed(0)
    network = timm.create_model(name, **options).eval()
    side = 14 if "patch14" in name else 16
    images = torch.randn(2, 3, side * 4, side * 6)
    with torch.no_grad():
        found = feature_map(network, images)
        wanted = network.forward_intermediates(
            images, indices=1, norm=True, output_fmt="NCHW", intermediates_only=True
        )[-1]
    assert found.shape[2] < found.shape[3]
    torch.testing.assert_close(found, wanted, rtol=0, atol=0)


@pytest.mark.parametrize("name", ["coat_tiny", "coat_lite_tiny", "pit_ti_224", "efficientvim_m1"])
def test_networks_without_one_set_of_locations_give_their_last_stage(name) -> None:
    spec = PreprocessingSpec(224, 224)
    channels = feature_channels(name, {}, spec)
    model = EmbeddingModel(ModelConfig(name, BaselineConfig(channels, 4), spec)).eval()
    with torch.no_grad():
        assert model.features(torch.zeros(1, 3, 224, 224)).shape[2:] in ((7, 7), (4, 4))


@pytest.mark.parametrize(
    ("layout", "shape", "wanted"),
    [
        (FeatureLayout((8,)), (2, 8, 3, 4), (2, 8, 3, 4)),
        (FeatureLayout((8,)), (2, 3, 4, 8), (2, 8, 3, 4)),
        (FeatureLayout((8,)), (2, 8, 8, 8), (2, 8, 8, 8)),
        (FeatureLayout(axes="NHWC"), (2, 3, 4, 8), (2, 8, 3, 4)),
        (FeatureLayout((8,), strides=((16, 16),)), (2, 12, 8), (2, 8, 3, 4)),
        (FeatureLayout((8,), strides=((17, 20),)), (2, 12, 8), (2, 8, 3, 4)),  # padded
        (FeatureLayout((8,), grid=(4, 3)), (2, 12, 8), (2, 8, 4, 3)),
        (FeatureLayout((8,), prefix_tokens=1), (2, 12, 8), (2, 8, 11, 1)),
        (FeatureLayout(), (2, 12, 8), (2, 8, 12, 1)),
        (FeatureLayout((12,)), (2, 12, 8), (2, 12, 8, 1)),
        (FeatureLayout(axes="NCL"), (2, 12, 8), (2, 12, 8, 1)),
    ],
)
def test_layouts(layout, shape, wanted) -> None:
    assert layout.map_of(torch.zeros(shape), (48, 64)).shape == wanted


def test_one_entry_of_a_dict_or_a_tuple() -> None:
    features = torch.zeros(1, 8, 2, 2)
    assert FeatureLayout((8,), entry="map").map_of({"map": features}, (4, 4)) is features
    assert FeatureLayout((8,), entry=1).map_of((None, features), (4, 4)) is features


@pytest.mark.parametrize(
    ("layout", "output", "line"),
    [
        (
            FeatureLayout(),
            torch.zeros(1, 8),
            r"it yields \(1, 8\); the pooling needs a feature map",
        ),
        (FeatureLayout(), [torch.zeros(1, 2), None], r"it yields a list of \(1, 2\), a NoneType;"),
        (
            FeatureLayout(entry="x"),
            {"y": torch.zeros(1)},
            r"a dict of y \(1\), which has no entry 'x'",
        ),
        (FeatureLayout((8,), prefix_tokens=1), torch.zeros(1, 1, 8), "no token of a location"),
    ],
)
def test_outputs_without_locations(layout, output, line) -> None:
    with pytest.raises(ConfigError, match=line):
        layout.map_of(output, (4, 4))


def test_a_network_without_a_description_has_an_open_layout() -> None:
    assert FeatureLayout.of(nn.Conv2d(3, 4, 1)) == FeatureLayout()


@pytest.mark.parametrize(
    ("name", "options", "size", "line"),
    [
        (
            "vit_tiny_patch16_224",
            {"depth": 1},
            (40, 48),
            "takes images of 224 x 224; yours are 40 x 48 .*--image-size 224.* "
            r"img_size = \[40, 48\] or dynamic_img_size = true$",
        ),
        ("test_vit", {"dynamic_img_size": True}, (64, 90), "multiples of 16; yours are 64 x 90 "),
        ("levit_128s", {}, (96, 96), r"takes images of 224 x 224.*option img_size = \[96, 96\]$"),
        ("test_resnet", {}, (0, 32), "takes images of 160 x 160; yours are 0 x 32"),
    ],
)
def test_a_size_that_a_network_does_not_take_is_one_line(name, options, size, line) -> None:
    channels = {"vit_tiny_patch16_224": 192, "test_vit": 64, "levit_128s": 384, "test_resnet": 96}[
        name
    ]
    config = ModelConfig(name, GSPConfig(channels, 8, 4), PreprocessingSpec(64, 64), options)
    with pytest.raises(ConfigError, match=line) as caught:
        EmbeddingModel(config).eval()(torch.zeros(1, 3, *size))
    assert "\n" not in str(caught.value)
