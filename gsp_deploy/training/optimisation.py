"""Build the optimiser with its parameter groups, and compute the learning rate's schedule."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from gsp_deploy.model import EmbeddingModel
from gsp_deploy.training.sections import (
    CosineScheduleSection,
    OptimiserSection,
    PlateauScheduleSection,
    ScheduleSection,
)


def build_optimiser(
    settings: OptimiserSection, model: EmbeddingModel, objective: nn.Module
) -> Optimizer:
    """Return the optimiser over all trainable parameters of the model and the losses."""
    groups = list(_groups(settings, model, objective))
    if settings.kind == "sgd":
        return torch.optim.SGD(groups, lr=settings.lr, momentum=settings.momentum)
    kinds: dict[str, type[Optimizer]] = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}
    return kinds[settings.kind](groups, lr=settings.lr)  # type: ignore[call-arg]


def set_learning_rate(optimiser: Optimizer, rate: float) -> None:
    """Set every group to its multiple of `rate`."""
    for group in optimiser.param_groups:
        group["lr"] = rate * group["multiple"]


def rate_factor(schedule: ScheduleSection, step: int, total_steps: int, drops: int) -> float:
    """Return the schedule's factor for the learning rate at a step.

    Args:
        schedule: the schedule's settings.
        step: counted from 0.
        total_steps: number of steps of the whole run.
        drops: how often the validation failed to improve within a plateau schedule's patience.

    >>> [rate_factor(CosineScheduleSection(kind="cosine"), step, 4, 0) for step in (0, 2)]
    [1.0, 0.5]
    """
    if step < schedule.warmup:
        return (step + 1) / (schedule.warmup + 1)
    if isinstance(schedule, PlateauScheduleSection):
        return max(float(schedule.factor**drops), schedule.final)
    if not isinstance(schedule, CosineScheduleSection):
        return 1.0
    progress = (step - schedule.warmup) / max(1, total_steps - schedule.warmup)
    return schedule.final + (1 - schedule.final) * 0.5 * (1 + math.cos(math.pi * progress))


def clip_gradients(settings: OptimiserSection, optimiser: Optimizer) -> float:
    """Clip the gradients as the settings say; return the norm of all together before that."""
    trained = [p for group in optimiser.param_groups for p in group["params"] if p.grad is not None]
    for group in optimiser.param_groups:
        for parameter in group["params"] if group["early_decay"] else ():
            if parameter.grad is not None:
                parameter.grad.add_(parameter.detach(), alpha=group["early_decay"])
    norm = nn.utils.clip_grad_norm_(trained, settings.clip_norm or float("inf")).item()
    if settings.clip_value:
        nn.utils.clip_grad_value_(trained, settings.clip_value)
    return norm


def is_drop(schedule: PlateauScheduleSection, seen: dict[str, float], score: float) -> bool:
    """Whether the rate drops after a validation with this score; larger scores are better.

    Args:
        schedule: the schedule's settings.
        seen: what the schedule has seen, empty at first; it is updated.
        score: the monitored metric.
    """
    pause = max(seen.get("pause", 0) - 1, 0)
    waited = 0 if seen.get("pause") else seen.get("waited", 0)
    best = seen.get("best", -math.inf)
    if score > best + schedule.min_gain:
        best, waited = score, 0
    elif not pause:
        waited += 1
    drops = waited >= schedule.patience
    seen.update(best=best, pause=schedule.pause if drops else pause, waited=0 if drops else waited)
    return drops


def _groups(
    settings: OptimiserSection, model: EmbeddingModel, objective: nn.Module
) -> Iterator[dict[str, Any]]:
    """Yield the non-empty parameter groups; vectors and scalars get no weight decay."""
    head = dict(model.head.named_parameters())
    prototypes = [head.pop("prototypes")] if "prototypes" in head else []
    parts = (
        (model.backbone.parameters(), 1.0),
        (head.values(), settings.head_lr),
        (prototypes, settings.prototype_lr),
        (objective.parameters(), settings.proxy_lr),
    )
    for parameters, multiple in parts:
        trained = [p for p in parameters if p.requires_grad]
        for decays in (True, False):
            members = [p for p in trained if (p.ndim > 1) == decays]
            if members:
                decay = settings.weight_decay if decays else 0.0
                early = decay if settings.decay_before_clipping else 0.0
                yield {
                    "params": members,
                    "multiple": multiple,
                    "weight_decay": decay - early,
                    "early_decay": early,
                }
