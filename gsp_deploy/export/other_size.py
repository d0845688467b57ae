"""Compare a backbone of open size with PyTorch at a size that it was not traced at.

A graph may contain what holds at the traced size alone, such as a mask of attention or position
embeddings, and still run at others.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir
import torch

from gsp_deploy.backbones.features import FeatureLayout
from gsp_deploy.config import ModelConfig
from gsp_deploy.errors import ConfigError, GspDeployError
from gsp_deploy.export.trial_run import running
from gsp_deploy.model import run_backbone

# The strides added to each side, and the stride of a network that does not describe its own.
_STRIDES = (2, 4)
_USUAL_STRIDE = (32, 32)
_ERROR = 1e-3


@dataclass(frozen=True)
class OtherSize:
    """Images `(B, 3, H, W)` of another size, and PyTorch's features of them."""

    images: np.ndarray
    features: np.ndarray

    def require_same(self, network: ir.Model, config: ModelConfig) -> None:
        """Run the exported backbone on the images.

        Raises:
            GspDeployError: it fails, or its features differ from PyTorch's.
        """
        name = str(network.graph.outputs[0].name)
        try:
            with running(network) as graph:
                found = graph.run(self.images, (name,))[name]
        except GspDeployError as error:
            raise _refusal(config, str(error)) from error
        largest = np.abs(self.features).max()
        if found.shape != self.features.shape or not np.allclose(
            found, self.features, rtol=0, atol=_ERROR * largest
        ):
            side = "x".join(map(str, self.images.shape[2:]))
            raise _refusal(config, f"at {side} the graph's features differ from PyTorch's")


@torch.no_grad()
def other_size(backbone: Any, config: ModelConfig, batch: int) -> OtherSize:
    """Run a backbone in PyTorch at a size that differs from its own in both sides.

    Raises:
        GspDeployError: the backbone takes no other size.
    """
    spec = config.preprocessing
    assert spec is not None
    stride = (FeatureLayout.of(backbone).strides or (_USUAL_STRIDE,))[-1]
    sides = (spec.height + _STRIDES[0] * stride[0], spec.width + _STRIDES[1] * stride[1])
    images = torch.randn(batch, 3, *sides, generator=torch.Generator().manual_seed(0))
    try:
        features = run_backbone(config.backbone, backbone, images)
    except ConfigError as error:
        reason = str(error).removeprefix(f"backbone {config.backbone} ").split(": set ")[0]
        raise _refusal(config, reason) from error
    return OtherSize(images.numpy(), features.numpy())


def _refusal(config: ModelConfig, why: str) -> GspDeployError:
    return GspDeployError(
        f"backbone {config.backbone} is made for one image size ({why}); export it without "
        "--dynamic-size"
    )
