"""Residual networks whose last stage keeps the size, as retrieval code often trains them."""

from __future__ import annotations

from typing import Any

from torch import nn

from gsp_deploy.errors import ConfigError

OPTION = "last_stride"
_STAGE = "layer4"  # timm's and torchvision's name of a ResNet's last stage


def set_last_stride(backbone: Any, stride: object) -> None:
    """Give the last stage of a ResNet this stride; its weights fit every stride.

    timm's `output_stride=16` is another network: it also dilates that stage.

    Raises:
        ConfigError: the stride is not 1 or 2, or the network has no such stage.
    """
    if stride not in (1, 2):
        raise ConfigError(f"{OPTION}: expected 1 or 2, got {stride!r}")
    if not may_differ(backbone):
        raise ConfigError(f"{OPTION} is for ResNets, whose last stage is called {_STAGE}")
    for module in getattr(backbone, _STAGE).modules():
        if isinstance(module, (nn.Conv2d, nn.AvgPool2d)) and _is_two(module.stride):
            module.stride = (stride, stride)


def may_differ(backbone: Any) -> bool:
    """Whether the network has a last stage of stride 2, which some code trains with stride 1."""
    stage = getattr(backbone, _STAGE, None)
    return isinstance(stage, nn.Module) and any(
        isinstance(module, nn.Conv2d) and _is_two(module.stride) for module in stage.modules()
    )


def _is_two(stride: object) -> bool:
    return stride in (2, (2, 2))
