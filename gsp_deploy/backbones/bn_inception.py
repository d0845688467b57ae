"""BN-Inception (Ioffe & Szegedy, ICML 2015), the usual backbone of metric-learning comparisons.

timm does not have it. Layers have the names of the Caffe port that metric-learning code uses
(`bn_inception-*.pth` of pretrained-models.pytorch), so a recipe can load its ImageNet weights:
`model.pretrained = "PATH"`.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from timm.models import register_model
from torch import Tensor, nn

from gsp_deploy.errors import CheckpointError, ConfigError

NAME = "bn_inception"
CHANNELS = 1024


class _Widths(NamedTuple):
    """Channels of one inception block; 0 if it has no such branch."""

    plain: int
    reduced: int
    single: int
    double_reduced: int
    double: int
    pooled: int
    pool: str


# Figure 5 of the paper. `pass` blocks halve the map: stride 2, and pooling without projection.
BLOCKS = {
    "3a": _Widths(64, 64, 64, 64, 96, 32, "average"),
    "3b": _Widths(64, 64, 96, 64, 96, 64, "average"),
    "3c": _Widths(0, 128, 160, 64, 96, 0, "pass"),
    "4a": _Widths(224, 64, 96, 96, 128, 128, "average"),
    "4b": _Widths(192, 96, 128, 96, 128, 128, "average"),
    "4c": _Widths(160, 128, 160, 128, 160, 128, "average"),
    "4d": _Widths(96, 128, 192, 160, 192, 128, "average"),
    "4e": _Widths(0, 128, 192, 192, 256, 0, "pass"),
    "5a": _Widths(352, 192, 320, 160, 224, 128, "average"),
    "5b": _Widths(352, 192, 320, 192, 224, 128, "max"),
}


class BNInception(nn.Module):
    """Images `(B, 3, H, W)` to features `(B, 1024, H / 32, W / 32)`, sizes rounded up.

    All layers are direct attributes with their published names; the batch norm of a convolution
    `x` is `x_bn`.

    >>> tuple(BNInception().eval()(torch.zeros(1, 3, 64, 64)).shape)
    (1, 1024, 2, 2)
    """

    def __init__(self) -> None:
        super().__init__()
        self.num_features = CHANNELS
        self._unit("conv1_7x7_s2", 3, 64, 7, stride=2)
        self._unit("conv2_3x3_reduce", 64, 64, 1)
        self._unit("conv2_3x3", 64, 192, 3)
        channels = 192
        for block, widths in BLOCKS.items():
            channels = self._add_block(f"inception_{block}", channels, widths)

    def forward_features(self, images: Tensor) -> Tensor:
        """Return the feature map."""
        x = _halved(self._run("conv1_7x7_s2", images))
        x = _halved(self._run("conv2_3x3", self._run("conv2_3x3_reduce", x)))
        for block, widths in BLOCKS.items():
            x = self._block(f"inception_{block}", x, widths)
        return x

    def forward(self, images: Tensor) -> Tensor:
        """Return the feature map; this network has no classifier."""
        return self.forward_features(images)

    def _unit(self, name: str, source: int, width: int, kernel: int, stride: int = 1) -> None:
        self.add_module(name, nn.Conv2d(source, width, kernel, stride, padding=kernel // 2))
        self.add_module(f"{name}_bn", nn.BatchNorm2d(width))

    def _run(self, name: str, x: Tensor) -> Tensor:
        convolved: Tensor = self.get_submodule(name)(x)
        return torch.relu(self.get_submodule(f"{name}_bn")(convolved))

    def _add_block(self, name: str, source: int, widths: _Widths) -> int:
        """Add a block's layers; return how many channels it yields."""
        stride = 2 if widths.pool == "pass" else 1
        if widths.plain:
            self._unit(f"{name}_1x1", source, widths.plain, 1)
        self._unit(f"{name}_3x3_reduce", source, widths.reduced, 1)
        self._unit(f"{name}_3x3", widths.reduced, widths.single, 3, stride)
        self._unit(f"{name}_double_3x3_reduce", source, widths.double_reduced, 1)
        self._unit(f"{name}_double_3x3_1", widths.double_reduced, widths.double, 3)
        self._unit(f"{name}_double_3x3_2", widths.double, widths.double, 3, stride)
        if widths.pooled:
            self._unit(f"{name}_pool_proj", source, widths.pooled, 1)
        return widths.plain + widths.single + widths.double + (widths.pooled or source)

    def _block(self, name: str, x: Tensor, widths: _Widths) -> Tensor:
        branches = [self._run(f"{name}_1x1", x)] if widths.plain else []
        branches.append(self._run(f"{name}_3x3", self._run(f"{name}_3x3_reduce", x)))
        double = self._run(f"{name}_double_3x3_1", self._run(f"{name}_double_3x3_reduce", x))
        branches.append(self._run(f"{name}_double_3x3_2", double))
        if widths.pool == "pass":
            branches.append(_halved(x))
        else:
            pooled = _averaged(x) if widths.pool == "average" else _maximised(x)
            branches.append(self._run(f"{name}_pool_proj", pooled))
        return torch.cat(branches, dim=1)


def load_published_weights(backbone: BNInception, weights: Mapping[str, Tensor], path: str) -> None:
    """Load the port's state dict; `path` names it in errors.

    The port's first convolution expects blue, green, red; its channels are reversed here to expect
    red, green, blue. The port's input is `255 * image - mean`, so use a mean of (0.502, 0.4588,
    0.4078) and a standard deviation of 1/255.

    Raises:
        CheckpointError: a layer is missing or has another shape.
    """
    wanted = backbone.state_dict()
    counters = {name for name in wanted if name.endswith("num_batches_tracked")}
    for name in wanted.keys() - counters:
        tensor = weights.get(name)
        if tensor is not None and wanted[name].ndim == 1:
            tensor = tensor.squeeze()  # the port's first release stores batch norms as (1, C)
        if tensor is None or tensor.shape != wanted[name].shape:
            found = "nothing" if tensor is None else tuple(tensor.shape)
            raise CheckpointError(
                f"{path}: expected {name} of shape {tuple(wanted[name].shape)} for {NAME}, "
                f"got {found}; use a bn_inception-*.pth of pretrained-models.pytorch"
            )
        wanted[name] = tensor
    first = "conv1_7x7_s2.weight"
    wanted[first] = wanted[first].flip(1)
    backbone.load_state_dict(wanted)


def is_published(weights: Mapping[str, Tensor]) -> bool:
    """Whether a state dict has the port's names at its top level."""
    return "conv1_7x7_s2.weight" in weights


def _halved(x: Tensor) -> Tensor:
    return nn.functional.max_pool2d(x, 3, 2, ceil_mode=True)


def _averaged(x: Tensor) -> Tensor:
    return nn.functional.avg_pool2d(x, 3, 1, padding=1)


def _maximised(x: Tensor) -> Tensor:
    return nn.functional.max_pool2d(x, 3, 1, padding=1)


@register_model
def bn_inception(
    pretrained: bool = False,
    pretrained_cfg: Any = None,
    pretrained_cfg_overlay: Any = None,
    cache_dir: str | os.PathLike[str] | None = None,
    num_classes: int = 0,
    global_pool: str = "",
    in_chans: int = 3,
) -> BNInception:
    """Build BN-Inception; it ignores some keywords, see `gsp_deploy.backbones`."""
    if pretrained:
        raise ConfigError(
            f"timm publishes no weights for {NAME}; set pretrained to the path of a "
            "bn_inception-*.pth of pretrained-models.pytorch, or to false"
        )
    return BNInception()
