"""Run a model on one image, because weights that fit every shape may still give a broken model."""

from __future__ import annotations

import os

import torch
from torch import Tensor

from gsp_deploy.errors import CheckpointError, UsageError
from gsp_deploy.model import EmbeddingModel

_FEATURE_SIDE = 7


@torch.inference_mode()
def check_runs(model: EmbeddingModel, path: str | os.PathLike[str]) -> None:
    """Embed one image of noise, or one feature map if the model is a head alone.

    Args:
        model: in eval mode.
        path: the weights' file, for messages.

    Raises:
        CheckpointError: the backbone fails on images of this size, its output has no locations, or
            the embedding contains NaN or infinity.
    """
    inputs = _one_input(model)
    try:
        embedding = model(inputs).embedding
    except UsageError as error:
        raise CheckpointError(f"{path}: {error}") from error
    if not torch.isfinite(embedding).all():
        size = "x".join(map(str, inputs.shape[2:]))
        raise CheckpointError(
            f"{path}: the model embeds an image of {size} as NaN or infinity; are these the "
            "weights of a run that diverged?"
        )


def _one_input(model: EmbeddingModel) -> Tensor:
    draw = torch.Generator().manual_seed(0)
    spec = model.config.preprocessing
    if spec is None:
        shape: tuple[int, ...] = (
            1,
            model.config.trained_head.in_channels,
            _FEATURE_SIDE,
            _FEATURE_SIDE,
        )
        return torch.rand(shape, generator=draw)
    return torch.randn((1, 3, spec.height, spec.width), generator=draw)
