"""Families of networks, small and untrained, exported and compared in fp32 and fp16."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from timm.models import register_model
from timm.models.metaformer import (
    Attention,
    LayerNorm2dNoBias,
    LayerNormNoBias,
    MetaFormer,
    SepConv,
)

from gsp_deploy import EmbeddingModel, GSPConfig, ModelConfig, PreprocessingSpec, open_session
from gsp_deploy.export import ExportOptions, export_onnx
from gsp_deploy.export.conversion import convert_precision
from gsp_deploy.model import feature_channels
from gsp_deploy.parity import open_rounding

TINY = {"depth": 1, "embed_dim": 48, "num_heads": 2}
ERROR = {"fp32": 1e-5, "fp16": 1e-2}
# The network, its options, and the images' height and width.
NETWORKS: dict[str, tuple[str, dict[str, Any], tuple[int, int]]] = {
    "ViT": ("vit_tiny_patch16_224", {**TINY, "img_size": (48, 64)}, (48, 64)),
    "DINOv2": ("vit_small_patch14_reg4_dinov2", {**TINY, "dynamic_img_size": True}, (42, 56)),
    "DINOv3": ("vit_small_patch16_dinov3", {**TINY, "dynamic_img_size": True}, (48, 64)),
    "SigLIP": ("vit_base_patch16_siglip_224", {**TINY, "img_size": 48}, (48, 48)),
    "EVA": ("eva02_tiny_patch14_224", {**TINY, "img_size": 42}, (42, 42)),
    "Swin": (
        "swin_tiny_patch4_window7_224",
        {"depths": (1, 2), "embed_dim": 24, "num_heads": (2, 2), "img_size": 56},
        (56, 56),
    ),
    "ConvNeXt": ("convnext_atto", {"depths": (1, 1, 1, 1)}, (64, 96)),
    "MobileNetV4": ("mobilenetv4_conv_small_035", {}, (64, 96)),
    "EfficientNet": ("test_efficientnet", {}, (64, 64)),
    "RegNet": ("regnetx_002", {}, (64, 64)),
    "RepVGG": ("repvgg_a0", {}, (64, 64)),
    "HGNet": ("hgnetv2_b0", {}, (64, 64)),
    "CAFormer": ("gsp_test_caformer", {}, (64, 96)),
    "Twins": (
        "twins_svt_small",
        {"depths": (1, 1, 1, 1), "embed_dims": (16, 32, 64, 128)},
        (224, 224),
    ),
    "MaxViT": ("test_maxvit", {}, (160, 160)),
}


@register_model
def gsp_test_caformer(**_: Any) -> MetaFormer:
    """As `caformer_s18`, whose depth no option changes, with one block a stage."""
    return MetaFormer(
        depths=(1, 1, 1, 1),
        dims=(24, 32, 64, 96),
        token_mixers=[SepConv, SepConv, Attention, Attention],
        norm_layers=[LayerNorm2dNoBias] * 2 + [LayerNormNoBias] * 2,
        num_classes=0,
        global_pool="",
    )


@pytest.mark.parametrize("family", NETWORKS)
def test_the_export_equals_pytorch_in_fp32_and_fp16(family: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    name, options, (height, width) = NETWORKS[family]
    spec = PreprocessingSpec(height, width)
    head = GSPConfig(feature_channels(name, options, spec), 16, 4)
    model = EmbeddingModel(ModelConfig(name, head, spec, options)).eval()
    images = torch.randn(3, 3, height, width)
    with torch.no_grad():
        expected = model(images)
    files = {precision: tmp_path / f"{precision}.onnx" for precision in ERROR}
    export_onnx(model, files["fp32"], ExportOptions(outputs=("weights",)))
    convert_precision(files["fp32"], files["fp16"], "fp16")
    for precision, limit in ERROR.items():
        for opened in (open_session, open_rounding):
            with opened(files[precision]) as session:
                found = session.run(images.numpy(), ("embedding", "weights"))
            np.testing.assert_allclose(found["embedding"], expected.embedding, atol=limit)
            assert found["weights"].shape == tuple(expected.weights.shape)
    assert found["weights"].shape[2] > 1


def test_tokens_and_their_positions_follow_an_open_size(tmp_path: Path) -> None:
    """A transformer that resamples its positions is exported with an open size."""
    torch.manual_seed(0)
    name, options, (height, width) = NETWORKS["DINOv2"]
    config = ModelConfig(name, GSPConfig(48, 16, 4), PreprocessingSpec(height, width), options)
    model = EmbeddingModel(config).eval()
    path = tmp_path / "m.onnx"
    export_onnx(model, path, ExportOptions(dynamic_size=True, outputs=("weights",)))
    with open_session(path) as session:
        for size in ((42, 56), (70, 56), (28, 98)):
            images = torch.randn(2, 3, *size)
            with torch.no_grad():
                expected = model(images)
            found = session.run(images.numpy(), ("embedding", "weights"))
            np.testing.assert_allclose(found["embedding"], expected.embedding, atol=1e-5)
            assert found["weights"].shape == tuple(expected.weights.shape)
