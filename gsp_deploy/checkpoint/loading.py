"""Load a model from a checkpoint file, with the settings that the caller replaces."""

from __future__ import annotations

import dataclasses
import os
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from gsp_deploy.base.progress import Announce
from gsp_deploy.checkpoint.authors import read_reference_model
from gsp_deploy.checkpoint.keras import SPEC as KERAS_SPEC
from gsp_deploy.checkpoint.keras import SUFFIXES as KERAS_SUFFIXES
from gsp_deploy.checkpoint.keras import read_keras_model
from gsp_deploy.checkpoint.reading import read_checkpoint
from gsp_deploy.config import GSPConfig, ModelConfig, PoolingMode, PreprocessingSpec, Solver
from gsp_deploy.errors import CheckpointError, ConfigError, brief, flattened
from gsp_deploy.model import EmbeddingModel


def load_checkpoint(
    path: str | os.PathLike[str],
    *,
    backbone: str | None = None,
    backbone_options: Mapping[str, Any] | None = None,
    preprocessing: PreprocessingSpec | None = None,
    transport_ratio: float | None = None,
    entropy_weight: float | None = None,
    iterations: int | None = None,
    solver: Solver | None = None,
    pooling: PoolingMode | None = None,
    max_residual: bool | None = None,
    normalize: bool | None = None,
    weights_key: str | None = None,
    prefix: str = "",
    announce: Announce = warnings.warn,
) -> EmbeddingModel:
    """Load a gsp-deploy checkpoint, or the authors' state dict, as a model in eval mode on the CPU.

    The authors' state dict (`embed.*`, `prototypes`, `power`, under any prefix) contains no
    settings: if you do not give one here, it has the value of their PyTorch layer. Our checkpoints
    contain their settings, and the values you give replace them. No code in a file is run.

    Args:
        path: `.safetensors`, `.pt` or `.pth`, or a `.h5` of the authors' TensorFlow framework,
            which contains its settings.
        backbone: timm architecture of the state dict's other tensors. Without it the state dict
            must be a head alone; the model's input is then the feature map.
        backbone_options: keyword arguments for `timm.create_model`, with `backbone`.
        preprocessing: how to prepare images for `backbone`; None is ImageNet's at 224 pixels.
        transport_ratio: mu; the authors' is 0.3.
        entropy_weight: gamma; the authors' is 0.1.
        iterations: solver steps; the authors' are 100.
        solver: `fixed-point`, the authors', `newton` or `certified`.
        pooling: `gap`, `gmp` or `gem`; the authors' is `gmp`, or `gem` if there is a `power`.
        max_residual: add the embedding of the maxima, as the authors' TensorFlow layer may.
        normalize: L2-normalise the embedding, as the authors do.
        weights_key: key of the set to take if a `.pt` file has several sets of weights, such as
            `state_dict_ema`; None takes averaged weights before plain ones, as timm does.
        prefix: start of the tensors' names to take if a state dict has several heads or networks.
        announce: called with one line about each choice, and one about unused tensors; by default
            the line becomes a warning.

    Raises:
        CheckpointError: the file is missing, damaged, hostile, or does not fit its config.
        ConfigError: a setting is outside its domain.
    """
    head_settings = {
        "transport_ratio": transport_ratio,
        "entropy_weight": entropy_weight,
        "iterations": iterations,
        "solver": solver,
        "pooling": pooling,
        "max_residual": max_residual,
        "normalize": normalize,
    }
    given = {name: value for name, value in head_settings.items() if value is not None}
    if Path(path).suffix in KERAS_SUFFIXES:
        _refuse_backbone_options(path, backbone, backbone_options)
        return read_keras_model(Path(path), given, preprocessing).eval()
    contents = read_checkpoint(path, weights_key)
    for note in contents.notes:
        announce(note)
    if contents.metadata is None:
        model = read_reference_model(
            contents.tensors,
            Path(path),
            given,
            backbone,
            backbone_options or {},
            preprocessing,
            prefix,
            announce,
        )
    else:
        _refuse_backbone_options(path, backbone, backbone_options, preprocessing)
        if prefix:
            raise ConfigError(f"{path} contains one network; leave the prefix {prefix!r} out")
        config = _with_head_settings(contents.metadata.model, given)
        model = _build(contents.tensors, config, path)
    return model.eval()


def usual_preprocessing(path: str | os.PathLike[str]) -> PreprocessingSpec:
    """Return how images are prepared for a state dict that does not say it, by its kind of file."""
    return KERAS_SPEC if Path(path).suffix in KERAS_SUFFIXES else PreprocessingSpec(224, 224)


def _with_head_settings(config: ModelConfig, given: Mapping[str, Any]) -> ModelConfig:
    if not given:
        return config
    head = config.trained_head
    if not isinstance(head, GSPConfig):
        raise ConfigError(
            f"the checkpoint's head is {head.pooling}; it has no {next(iter(given))} to set"
        )
    if "solver" in given and "iterations" not in given:
        given = {**given, "iterations": None}
    return dataclasses.replace(config, head=dataclasses.replace(head, **given))


def _refuse_backbone_options(path: str | os.PathLike[str], *options: object) -> None:
    if any(option is not None for option in options):
        raise ConfigError(
            f"{path} contains its own backbone and pre-processing settings; leave those options out"
        )


def _build(
    tensors: Mapping[str, Tensor], config: ModelConfig, path: str | os.PathLike[str]
) -> EmbeddingModel:
    _check_head_shapes(tensors, config, path)
    model = EmbeddingModel(config)
    try:
        model.load_state_dict(tensors)
    except RuntimeError as error:
        raise CheckpointError(
            f"{path}: weights do not fit the checkpoint's config: {flattened(error)}"
        ) from error
    return model


def _check_head_shapes(
    tensors: Mapping[str, Tensor], config: ModelConfig, path: str | os.PathLike[str]
) -> None:
    """Check the config's sizes against the tensors before memory of those sizes is allocated."""
    head = config.trained_head
    wanted = {"head.embed.weight": (head.embedding_dim, head.in_channels)}
    if isinstance(head, GSPConfig):
        wanted["head.prototypes"] = (head.num_prototypes, head.embedding_dim)
    for name, shape in wanted.items():
        found = tuple(tensors[name].shape) if name in tensors else "none"
        if found != shape:
            raise CheckpointError(
                f"{path}: weights do not fit the checkpoint's config: "
                f"expected {name} of shape {brief(shape)}, found {found}"
            )
