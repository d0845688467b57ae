"""`small_cnn_s8`: six 3x3 convolutions to 128 channels at stride 8, 0.43 M parameters.

It trains from scratch on one CPU core, and its batch norms fold into the convolutions at export.
"""

from __future__ import annotations

from typing import Any

from timm.models import register_model
from torch import Tensor, nn

from gsp_deploy.errors import ConfigError


class ConvUnit(nn.Module):
    """3x3 convolution, batch norm, ReLU; with a skip if input and output have the same shape."""

    def __init__(self, in_channels: int, channels: int, stride: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, channels, 3, stride, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(channels)
        self.act = nn.ReLU(inplace=True)
        self.skips = stride == 1 and in_channels == channels
        nn.init.kaiming_normal_(self.conv.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:
        """Map `(B, C, H, W)` to `(B, channels, ceil(H / stride), ceil(W / stride))`."""
        residual = self.norm(self.conv(x))
        activated: Tensor = self.act(x + residual if self.skips else residual)
        return activated


class SmallConvNet(nn.Module):
    """Six 3x3 convolutions, three of them with stride 2.

    Args:
        width: channels of the first convolution; the last has four times as many.
        in_channels: channels of the image.
    """

    def __init__(self, width: int = 32, in_channels: int = 3) -> None:
        super().__init__()
        self.num_features = 4 * width
        self.units = nn.Sequential(
            ConvUnit(in_channels, width, stride=2),
            ConvUnit(width, 2 * width, stride=2),
            ConvUnit(2 * width, 2 * width, stride=1),
            ConvUnit(2 * width, 4 * width, stride=2),
            ConvUnit(4 * width, 4 * width, stride=1),
            ConvUnit(4 * width, 4 * width, stride=1),
        )

    def forward_features(self, images: Tensor) -> Tensor:
        """Map images `(B, 3, H, W)` to features `(B, 4 * width, H / 8, W / 8)`."""
        features: Tensor = self.units(images)
        return features

    def forward(self, images: Tensor) -> Tensor:
        """Return the feature map; this network has no classifier."""
        return self.forward_features(images)


@register_model
def small_cnn_s8(
    pretrained: bool = False,
    pretrained_cfg: Any = None,
    pretrained_cfg_overlay: Any = None,
    cache_dir: Any = None,
    num_classes: int = 0,
    global_pool: str = "",
    in_chans: int = 3,
    width: int = 32,
) -> SmallConvNet:
    """Build the small network; `width` is the number of channels of the first convolution."""
    if pretrained:
        raise ConfigError("small_cnn_s8 has no published weights; set pretrained = false")
    return SmallConvNet(width, in_chans)
