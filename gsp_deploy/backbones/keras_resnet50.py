"""ResNet-50 as Keras has it, which GSP's authors train in TensorFlow.

It differs from timm's `resnet50` in where a stage halves the size (the first convolution of its
first block, not the second), and in the epsilon of batch norm.
"""

from __future__ import annotations

from typing import Any

from timm.models import register_model
from timm.models.resnet import Bottleneck, ResNet
from torch import nn

from gsp_deploy.errors import ConfigError

NAME = "keras_resnet50"
EPSILON = 1.001e-5


@register_model
def keras_resnet50(
    pretrained: bool = False,
    pretrained_cfg: Any = None,
    pretrained_cfg_overlay: Any = None,
    cache_dir: Any = None,
    **options: Any,
) -> Any:
    """Build Keras's ResNet-50; `convert` fills it from the authors' `.h5`."""
    if pretrained:
        raise ConfigError(f"{NAME} has no published weights here; set pretrained = false")
    network: Any = ResNet(Bottleneck, (3, 4, 6, 3), **options)  # type: ignore[arg-type]
    for stage in (network.layer2, network.layer3, network.layer4):
        first, second = stage[0].conv1, stage[0].conv2
        first.stride, second.stride = second.stride, first.stride
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eps = EPSILON
    return network
