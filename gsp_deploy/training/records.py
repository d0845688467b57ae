"""What a run tells while it goes, and what it comes to."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from gsp_deploy.errors import GspDeployError


class DivergenceError(GspDeployError):
    """The loss or its gradient stopped being a finite number."""


@dataclass(frozen=True)
class StepRecord:
    """One step: losses before it, the gradient's norm before clipping. Steps count from 1."""

    step: int
    epoch: int
    learning_rate: float
    loss: float
    metric_loss: float
    zsr_loss: float | None
    gradient_norm: float


@dataclass(frozen=True)
class RunPlan:
    """What is about to be trained."""

    training_images: int
    training_classes: int
    validation_images: int
    validation_classes: int
    parameters: int
    total_steps: int
    steps_per_epoch: int
    first_step: int
    device: str
    notes: tuple[str, ...]


@dataclass(frozen=True)
class TrainingResult:
    """How a run ended.

    Attributes:
        folder: where its files are.
        steps: done, of `total_steps`.
        best_step: of the best validation; None without any.
        best_metrics: `recall_at_k`, `map_at_r`, `r_precision` on held-out classes.
        last_metrics: of the latest validation.
        interrupted: ended by a signal; the state is saved.
        stopped_early: ended by `run.patience`.
        leads: whether this process, of those that trained together, speaks for the run.
    """

    folder: Path
    steps: int
    total_steps: int
    best_step: int | None
    best_metrics: dict[str, float]
    last_metrics: dict[str, float]
    interrupted: bool
    stopped_early: bool
    leads: bool


class Observer(Protocol):
    """Hears what a run does."""

    def started(self, plan: RunPlan) -> None:
        """Hear what is about to be trained."""

    def stepped(self, record: StepRecord) -> None:
        """Hear of one step."""

    def evaluated(self, step: int, metrics: dict[str, float], is_best: bool) -> None:
        """Hear of a validation."""


class Silence:
    """An observer that keeps to itself what it hears."""

    def started(self, plan: RunPlan) -> None:
        """Say nothing."""

    def stepped(self, record: StepRecord) -> None:
        """Say nothing."""

    def evaluated(self, step: int, metrics: dict[str, float], is_best: bool) -> None:
        """Say nothing."""
