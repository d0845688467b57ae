"""The one place that decides how a network's features become a map `(B, C, H, W)`.

1. A map whose channels come last is transposed.
2. Tokens lose those that belong to no location, such as a class token or registers. The others get
   back the grid that they came from.
3. A network that returns one tensor per stage, its class token alone, or tokens that fit no grid,
   gives its last stage through timm's `forward_intermediates`. In PyTorch it then runs twice; in an
   export once.
4. Other tokens without a grid become a map of one column, `(B, C, N, 1)`: pooling needs no grid.

`FeatureLayout.of` reads all this from timm's own description of the network. For a network without
such a description, construct the layout yourself.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from gsp_deploy.errors import ConfigError

Size = tuple[int, int]


@dataclass(frozen=True)
class FeatureLayout:
    """How a network arranges its features.

    Attributes:
        channels: the numbers of channels that the features may have; empty if unknown.
        axes: the order of the axes, as timm writes it: `NCHW`, `NHWC`, `NLC` or `NCL`. None: the
            axis with one of the `channels` is the channels'; if several are, or none is known,
            `NCHW` or `NLC`.
        prefix_tokens: how many tokens come before the locations'.
        strides: pixels per location, `(height, width)`; the first that fits gives the grid.
        grid: the tokens' grid if no stride fits, `(height, width)`.
        entry: the key or the index of the features, if the network returns a dict or a tuple.

    >>> import torch
    >>> tokens = torch.zeros(2, 1 + 2 * 3, 8)  # of a class token and 2 x 3 patches
    >>> layout = FeatureLayout(channels=(8,), prefix_tokens=1, strides=((16, 16),))
    >>> tuple(layout.map_of(tokens, (32, 48)).shape)
    (2, 8, 2, 3)
    """

    channels: tuple[int, ...] = ()
    axes: str | None = None
    prefix_tokens: int = 0
    strides: tuple[Size, ...] = ()
    grid: Size | None = None
    entry: str | int | None = None

    @classmethod
    def of(cls, network: nn.Module) -> FeatureLayout:
        """Read timm's description of a network; what it does not describe stays unknown."""
        last = _last_stage(network)
        known = (getattr(network, "num_features", None), last.get("num_chs"))
        axes = getattr(network, "output_fmt", None)
        patches = getattr(network, "patch_embed", None)
        return cls(
            channels=tuple(dict.fromkeys(n for n in known if isinstance(n, int))),
            axes=None if axes is None else str(getattr(axes, "value", axes)),
            prefix_tokens=getattr(network, "num_prefix_tokens", None) or 0,
            strides=_strides(last, patches),
            grid=getattr(patches, "grid_size", None),
        )

    def map_of(self, output: Any, image_size: Size) -> Tensor:
        """Return a network's output for images of `(height, width)` as a map `(B, C, H, W)`.

        Raises:
            ConfigError: the output contains no map and no tokens; the message starts with `it`.
        """
        features = _entry(output, self.entry)
        axes = self._axes_of(features)
        if axes == "NCHW":
            return features
        if axes == "NHWC":
            return features.permute(0, 3, 1, 2)
        if axes == "NLC":
            features = features.transpose(1, 2)
        locations = features[:, :, self.prefix_tokens :]
        if locations.shape[2] == 0:
            raise ConfigError(f"it yields {_in_words(output)}, which has no token of a location")
        count = locations.shape[2]
        return locations.unflatten(2, self._grid_of(count, image_size) or (count, 1))

    def places(self, output: Any, image_size: Size) -> bool:
        """Whether an output is a map, or tokens that have a known grid."""
        if not isinstance(output, Tensor) or output.ndim not in (3, 4):
            return False
        axes = self._axes_of(output)
        if output.ndim == 4:
            return True
        count = output.shape[axes.index("L")] - self.prefix_tokens
        return count > 0 and self._grid_of(count, image_size) is not None

    def _axes_of(self, features: Any) -> str:
        if not isinstance(features, Tensor) or features.ndim not in (3, 4):
            raise ConfigError(
                f"it yields {_in_words(features)}; the pooling needs a feature map (batch, "
                "channels, height, width) or tokens (batch, tokens, channels)"
            )
        orders = ("NLC", "NCL") if features.ndim == 3 else ("NCHW", "NHWC")
        if self.axes in orders:
            return self.axes
        fitting = [o for o in orders if features.shape[o.index("C")] in self.channels]
        return (*fitting, *orders)[0]

    def _grid_of(self, count: int, image_size: Size) -> Size | None:
        for stride in self.strides:
            for grid in (_floored(image_size, stride), _ceiled(image_size, stride)):
                if grid[0] * grid[1] == count:
                    return grid
        if self.grid is not None and self.grid[0] * self.grid[1] == count:
            return self.grid
        return None


def feature_map(network: Any, images: Tensor) -> Tensor:
    """Run a network of timm's kind on `images (B, 3, H, W)`; return its features `(B, C, h, w)`.

    Raises:
        ConfigError: the network yields neither a map nor tokens.
    """
    layout = FeatureLayout.of(network)
    size = (images.shape[-2], images.shape[-1])
    output = network.forward_features(images)
    if not layout.places(output, size) and hasattr(network, "forward_intermediates"):
        output = network.forward_intermediates(
            images, indices=1, norm=True, output_fmt="NCHW", intermediates_only=True
        )[-1]
    return layout.map_of(output, size)


def _last_stage(network: nn.Module) -> Mapping[str, Any]:
    stages = getattr(network, "feature_info", None)
    found = stages[-1] if isinstance(stages, Sequence) and stages else None
    return found if isinstance(found, Mapping) else {}


def _strides(last: Mapping[str, Any], patches: Any) -> tuple[Size, ...]:
    found = []
    if hasattr(patches, "feat_ratio"):
        found.append(tuple(patches.feat_ratio(as_scalar=False)))
    if (reduction := last.get("reduction")) is not None:
        found.append((reduction, reduction))
    return tuple(found)


def _entry(output: Any, entry: str | int | None) -> Any:
    if entry is None:
        return output
    try:
        return output[entry]
    except (KeyError, IndexError, TypeError) as error:
        raise ConfigError(f"it yields {_in_words(output)}, which has no entry {entry!r}") from error


def _floored(size: Size, stride: Size) -> Size:
    return size[0] // stride[0], size[1] // stride[1]


def _ceiled(size: Size, stride: Size) -> Size:
    return -(-size[0] // stride[0]), -(-size[1] // stride[1])


def _in_words(output: Any) -> str:
    """Name an output's shape, or what it consists of."""
    if isinstance(output, Tensor):
        return f"({', '.join(map(str, output.shape))})"
    if isinstance(output, Mapping):
        return "a dict of " + ", ".join(f"{key} {_in_words(part)}" for key, part in output.items())
    if isinstance(output, Sequence) and not isinstance(output, str):
        return f"a {type(output).__name__} of " + ", ".join(map(_in_words, output))
    return f"a {type(output).__name__}"
