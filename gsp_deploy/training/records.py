"""Records that a training run passes to its observer, and its result."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from gsp_deploy.errors import GspDeployError


class DivergenceError(GspDeployError):
    """The loss or its gradient became NaN or infinite."""


@dataclass(frozen=True)
class StepRecord:
    """One step, counted from 1: the losses before it, and the gradient's norm before clipping."""

    step: int
    epoch: int
    learning_rate: float
    loss: float
    metric_loss: float
    zsr_loss: float | None
    gradient_norm: float


@dataclass(frozen=True)
class RunPlan:
    """Summary of a run before its first step."""

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
    """Result of a run.

    Attributes:
        folder: the run's folder.
        steps: number of steps done, of `total_steps`.
        best_step: step of the best validation; None without any validation.
        best_metrics: its `recall_at_k`, `map_at_r` and `r_precision` on held-out classes.
        last_metrics: the same of the latest validation.
        interrupted: whether a signal ended the run; the state is saved.
        stopped_early: whether `run.patience` ended the run.
        leads: whether this process is the first of those that trained together; it alone reports.
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
    """Callbacks of a run; implement them to show or record its progress."""

    def started(self, plan: RunPlan) -> None:
        """Called once before the first step."""

    def stepped(self, record: StepRecord) -> None:
        """Called after each step."""

    def evaluated(self, step: int, metrics: dict[str, float], is_best: bool) -> None:
        """Called after each validation."""


class Silence:
    """An observer that does nothing."""

    def started(self, plan: RunPlan) -> None:
        """Do nothing."""

    def stepped(self, record: StepRecord) -> None:
        """Do nothing."""

    def evaluated(self, step: int, metrics: dict[str, float], is_best: bool) -> None:
        """Do nothing."""
