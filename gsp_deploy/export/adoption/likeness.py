"""Take the pre-processing of a network in timm."""

from __future__ import annotations

import re
from difflib import get_close_matches
from typing import get_args

import timm

from gsp_deploy.config import Interpolation, PreprocessingSpec
from gsp_deploy.errors import UsageError, brief

_PREFIX = "timm/"
_NAME = re.compile(r"[A-Za-z0-9_]+(\.[A-Za-z0-9_]+)?")
# timm's words for how it crops: the centre; the whole image in another aspect ratio.
_RESIZES = {"center": "crop", "squash": "stretch"}


def preprocessing_like(name: str) -> PreprocessingSpec:
    """Return the pre-processing that timm evaluates a network with, from its `pretrained_cfg`.

    Nothing is downloaded: timm's package contains these settings.

    Args:
        name: `timm/NAME`, with or without the tag of the weights.

    Raises:
        UsageError: timm has no such network, or prepares its images in a way that no option has.

    >>> preprocessing_like("timm/resnet50.a1_in1k").crop_ratio
    0.95
    """
    model = name.removeprefix(_PREFIX)
    if not name.startswith(_PREFIX) or not _NAME.fullmatch(model):
        raise UsageError(f"--like takes timm/NAME, as in timm/resnet50, got {brief(name)}")
    try:
        found = timm.get_pretrained_cfg(model)
    except RuntimeError as error:
        raise UsageError(f"timm has no settings for {model}: {error}") from error
    if found is None or not timm.is_model(model):
        near = ", ".join(get_close_matches(model, timm.list_models(), n=4))
        raise UsageError(f"timm has no network {model}" + (f"; near it: {near}" if near else ""))
    if found.crop_mode not in _RESIZES:
        raise UsageError(
            f"timm prepares images for {model} with crop mode {found.crop_mode!r}, which "
            "gsp-deploy does not have; give --size, --resize, --mean and --std yourself"
        )
    if found.interpolation not in get_args(Interpolation):
        raise UsageError(
            f"timm resizes images for {model} with {found.interpolation!r}, and gsp-deploy knows "
            f"{', '.join(get_args(Interpolation))}; give the settings yourself"
        )
    _, height, width = found.input_size
    return PreprocessingSpec.from_dict(
        {
            "height": height,
            "width": width,
            "mean": found.mean,
            "std": found.std,
            "interpolation": found.interpolation,
            "resize": _RESIZES[found.crop_mode],
            "crop_ratio": found.crop_pct or 1.0,
            "pipeline": "timm",
        }
    )
