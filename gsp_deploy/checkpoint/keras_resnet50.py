"""The weights of Keras's ResNet-50 under timm's names."""

from __future__ import annotations

import re
from collections.abc import Mapping

from torch import Tensor

NAME = "resnet50"  # Keras gives the network this name
_BLOCK = re.compile(r"conv(\d)_block(\d)_(\d)_(conv|bn)")
_PARTS = {
    "gamma": "weight",
    "beta": "bias",
    "moving_mean": "running_mean",
    "moving_variance": "running_var",
}


def resnet50_state(arrays: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the backbone's tensors under timm's names.

    Two things go into the weights: Keras's convolutions have biases, which batch norm's mean takes,
    and its images are BGR, so that the first convolution's channels turn around.
    """
    state: dict[str, Tensor] = {}
    biases: dict[str, Tensor] = {}
    for name, array in arrays.items():
        layer, _, part = name.removeprefix(f"{NAME}/").partition("/")
        target = _target(layer)
        if target is None or not name.startswith(f"{NAME}/"):
            continue
        part = part.removesuffix(":0")
        if part == "kernel":
            state[f"{target}.weight"] = array.permute(3, 2, 0, 1).contiguous()
        elif layer.endswith("conv") and part == "bias":
            biases[_norm_of(target)] = array
        elif part in _PARTS:
            state[f"{target}.{_PARTS[part]}"] = array
    for target, bias in biases.items():
        state[f"{target}.running_mean"] = state[f"{target}.running_mean"] - bias
    if "conv1.weight" in state:
        state["conv1.weight"] = state["conv1.weight"].flip(1)
    return state


def _target(layer: str) -> str | None:
    """Return timm's name of a Keras layer.

    >>> _target("conv3_block1_0_bn"), _target("conv1_conv"), _target("pool1_pool")
    ('layer2.0.downsample.1', 'conv1', None)
    """
    if layer in ("conv1_conv", "conv1_bn"):
        return "conv1" if layer == "conv1_conv" else "bn1"
    found = _BLOCK.fullmatch(layer)
    if found is None:
        return None
    stage, block, place, kind = int(found[1]) - 1, int(found[2]) - 1, found[3], found[4]
    if place == "0":
        return f"layer{stage}.{block}.downsample.{0 if kind == 'conv' else 1}"
    return f"layer{stage}.{block}.{kind}{place}"


def _norm_of(convolution: str) -> str:
    if convolution.endswith("downsample.0"):
        return convolution.removesuffix("0") + "1"
    return convolution.replace("conv", "bn")
