"""Say in one line which image sizes a network takes, when it fails on another."""

from __future__ import annotations

import inspect
from typing import Any

from torch import nn

from gsp_deploy.errors import ConfigError, flattened

Size = tuple[int, int]
# Most characters of a network's own error that a message quotes.
_QUOTED = 120


def size_error(name: str, network: nn.Module, size: Size, error: BaseException) -> ConfigError:
    """Return the error to raise when a network fails on images of `(height, width)`.

    Args:
        name: of the network.
        network: made by timm, or any other; what it does not describe is left out.
        size: height and width of the images.
        error: what the network raised.
    """
    reason, yours = flattened(error, _QUOTED) or type(error).__name__, _in_words(size)
    multiple = _multiple(network)
    if multiple is not None and any(side % m for side, m in zip(size, multiple, strict=True)):
        return ConfigError(
            f"backbone {name} takes images with sides that are multiples of {_side(multiple)}; "
            f"yours are {yours} ({reason}): set --image-size {_nearest(size, multiple)}, or a "
            "recipe's preprocessing.height and width"
        )
    wanted = _made_for(network)
    if wanted is None or wanted == size:
        return ConfigError(f"backbone {name} fails on images of {yours}: {reason}")
    options = " or ".join(_options(network, size))
    return ConfigError(
        f"backbone {name} takes images of {_in_words(wanted)}; yours are {yours} ({reason}): set "
        f"--image-size {_side(wanted)}, or a recipe's preprocessing.height and width"
        + (f", or the backbone option {options}" if options else "")
    )


def _made_for(network: Any) -> Size | None:
    """Return the size that the network was built for, or else that of its published weights."""
    built = getattr(getattr(network, "patch_embed", None), "img_size", None)
    published = (getattr(network, "pretrained_cfg", None) or {}).get("input_size")
    found = built or (published or ())[1:]
    return (int(found[0]), int(found[1])) if isinstance(found, tuple) and found else None


def _multiple(network: Any) -> Size | None:
    """Return the patch size if the network takes every multiple of it."""
    patches = getattr(network, "patch_embed", None)
    if getattr(patches, "strict_img_size", True) or getattr(patches, "dynamic_img_pad", False):
        return None
    found = getattr(patches, "patch_size", None)
    return found if isinstance(found, tuple) else None


def _options(network: nn.Module, size: Size) -> list[str]:
    """Return the options with which timm builds the network for other sizes, as a recipe has them.

    Constructors name their options; those of timm's base classes count too.
    """
    known = {
        name
        for kind in type(network).__mro__
        if issubclass(kind, nn.Module) and kind is not nn.Module
        for name in inspect.signature(kind).parameters
    }
    options = {
        "img_size": f"img_size = [{size[0]}, {size[1]}]",
        "dynamic_img_size": "dynamic_img_size = true",
    }
    return [words for name, words in options.items() if name in known]


def _nearest(size: Size, multiple: Size) -> int:
    return max(round(size[0] / multiple[0]), 1) * multiple[0]


def _side(size: Size) -> str:
    return str(size[0]) if size[0] == size[1] else _in_words(size)


def _in_words(size: Size) -> str:
    return f"{size[0]} x {size[1]}"
