"""Run training: steps, validations and saves, and how a run starts, stops and continues."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from gsp_deploy.base.words import counted
from gsp_deploy.data import (
    Dataset,
    LabelledImages,
    cross_validation_folds,
    open_dataset,
    validation_split,
)
from gsp_deploy.errors import DataError
from gsp_deploy.training.assembly import choose_device
from gsp_deploy.training.batch_norm import SETTLING_BATCHES, unsettled_share
from gsp_deploy.training.distributed import World, any_process, from_leader, processes
from gsp_deploy.training.journal import Journal, check_images, check_recipe
from gsp_deploy.training.optimisation import is_drop
from gsp_deploy.training.recipe import Recipe
from gsp_deploy.training.records import Observer, RunPlan, Silence, TrainingResult
from gsp_deploy.training.run import TrainingRun
from gsp_deploy.training.state import Best, RunFolder, RunProgress, RunState, load_state

# In a batch of 16 classes, zero-shot regularisation did the same with shuffled labels
# (benchmarks/retrieval.md). No run shows how many it needs.
_CLASSES_WITHOUT_SIGNAL = 16


def train(
    recipe: Recipe,
    folder: str | os.PathLike[str],
    *,
    dataset: Dataset | None = None,
    resume: bool = False,
    force: bool = False,
    command: str | None = None,
    observer: Observer | None = None,
) -> TrainingResult:
    """Train a model from a recipe and write checkpoints, state and log into `folder`.

    With `resume`, a run that was interrupted or killed continues from its last saved state, or
    from the beginning if it had saved none. On a CPU it ends with the same bytes as a run without
    an interruption. SIGINT and SIGTERM end a run after the current step, with the state saved.

    Args:
        recipe: see `load_recipe`.
        folder: the run's folder; it must be empty or new unless you pass `resume` or `force`.
        dataset: use this instead of opening `recipe.data.spec`.
        resume: continue the run in the folder.
        force: replace the run in the folder.
        command: the command to record in the checkpoints as their origin.
        observer: called at every step and validation.

    Raises:
        UsageError: the folder contains a run, or that run has another recipe or other images.
        DivergenceError: a loss or gradient is not finite.
        DataError: an image cannot be read.
        MissingCapabilityError: the machine lacks the device or a package.
    """
    files = RunFolder(Path(folder))
    with processes() as world:
        if world.leads:
            files.check(resume=resume, force=force)
        state = load_state(files.state) if resume else None
        if state is not None:  # first, because a wrong recipe could make anything below fail
            check_recipe(state, recipe, files)
        with _threads(_thread_count(recipe, state)) as threads:
            data = dataset or open_dataset(recipe.data.spec)
            run = _assemble(recipe, data, world)
            if world.leads:  # only now, so that an error above does not delete the old run
                files.prepare(start_over=force)
            if state is not None:
                check_images(state, run, files)
                run.restore(state.tensors)
            else:
                run.start_prototypes()
            journal = Journal(files, run, state, command, threads) if world.leads else None
            watcher = observer if observer is not None and world.leads else Silence()
            course = _Course(run, files, state, journal, watcher)
            return course.follow([*data.notes, *_notes(run)])


class _Course:
    """One run from its first step, or its continuation, to its end."""

    def __init__(
        self,
        run: TrainingRun,
        files: RunFolder,
        state: RunState | None,
        journal: Journal | None,
        observer: Observer,
    ) -> None:
        self.run, self.files, self.journal, self.observer = run, files, journal, observer
        self.progress = RunProgress() if state is None else state.progress
        self.best = None if state is None else state.best

    def follow(self, notes: list[str]) -> TrainingResult:
        """Train to the end or until a signal; the observer receives `notes`."""
        self.observer.started(self._plan(notes))
        try:
            with _interruptible() as interrupted:
                stopped = self._steps(interrupted) if not self.progress.finished else False
        finally:
            if self.journal is not None:
                self.journal.close()
        return self._result(interrupted=stopped)

    def _steps(self, interrupted: Callable[[], bool]) -> bool:
        """Take steps until the end; return whether a signal ended them."""
        run, progress = self.run, self.progress
        first = progress.step
        for step, batch in zip(range(first, run.total_steps), run.batches(first), strict=True):
            record = run.step(step, batch, progress.drops)
            progress.step = step + 1
            at_end = progress.step == run.total_steps
            due = at_end or progress.step % run.evaluation_interval == 0
            if due:  # the weights may become the best, or the last if patience is spent
                run.settle_statistics(progress.step)
            metrics = self._validate() if due and len(run.validation) else {}
            if self.journal is not None:
                self.journal.record(record, metrics)
            self.observer.stepped(record)
            progress.finished = at_end or self._is_patience_spent()
            stop = any_process(interrupted(), run.world, run.device)
            self._save(publish=due or stop or progress.finished)
            if progress.finished:
                return False
            if stop:
                return True
        return False

    def _validate(self) -> dict[str, float]:
        """Validate; keep the weights if they are the best so far, or count against patience."""
        run, progress = self.run, self.progress
        found = run.evaluate(progress.step) if run.world.leads else None
        metrics = from_leader(found, run.world)
        monitor = run.recipe.run.monitor
        is_best = self.best is None or metrics[monitor] > self.best.metrics[monitor]
        if is_best:
            weights = {name: t.cpu().clone() for name, t in run.model.state_dict().items()}
            self.best = Best(progress.step, metrics, weights)
            progress.without_gain = 0
        else:
            progress.without_gain += 1
        schedule = run.recipe.schedule
        if schedule.kind == "plateau":
            progress.drops += is_drop(schedule, progress.plateau, metrics[monitor])
        progress.metrics = metrics
        self.observer.evaluated(progress.step, metrics, is_best)
        return metrics

    def _is_patience_spent(self) -> bool:
        patience = self.run.recipe.run.patience
        return 0 < patience <= self.progress.without_gain

    def _save(self, *, publish: bool) -> None:
        due = publish or self.progress.step % self.run.recipe.run.save_every == 0
        if due and self.journal is not None:
            self.journal.save(self.progress, self.best, publish=publish)

    def _plan(self, notes: list[str]) -> RunPlan:
        run = self.run
        if self.journal is not None:
            notes = [*notes, *self.journal.notes]
        return RunPlan(
            training_images=len(run.training),
            training_classes=run.training.num_classes,
            validation_images=len(run.validation),
            validation_classes=run.validation.num_classes if len(run.validation) else 0,
            parameters=sum(p.numel() for p in run.model.parameters()),
            total_steps=run.total_steps,
            steps_per_epoch=run.sampler.steps_per_epoch,
            first_step=self.progress.step,
            device=str(run.device),
            notes=tuple(notes),
        )

    def _result(self, *, interrupted: bool) -> TrainingResult:
        progress, best = self.progress, self.best
        return TrainingResult(
            folder=self.files.path,
            steps=progress.step,
            total_steps=self.run.total_steps,
            best_step=None if best is None else best.step,
            best_metrics={} if best is None else best.metrics,
            last_metrics=progress.metrics,
            interrupted=interrupted,
            stopped_early=progress.finished and progress.step < self.run.total_steps,
            leads=self.run.world.leads,
        )


def _notes(run: TrainingRun) -> list[str]:
    """Return notes about what a user might not expect from this run."""
    notes = []
    if run.recipe.set_aside:
        sections = ", ".join(f"[{name}]" for name in run.recipe.set_aside)
        notes.append(f"head {run.recipe.head.kind}: {sections} are not used")
    classes = run.sampler.classes_in_batch
    if run.recipe.uses_zsr and classes is not None and classes <= _CLASSES_WITHOUT_SIGNAL:
        notes.append(
            f"a batch has {counted(classes, 'class', 'classes')}; with {_CLASSES_WITHOUT_SIGNAL} "
            "the zero-shot loss acted as noise in our measurement (benchmarks/retrieval.md); for "
            "more, lower sampler.images_per_class or raise sampler.batch_size; to do without it, "
            "set zsr.enabled = false"
        )
    if share := unsettled_share(run.model, run.total_steps):
        notes.append(
            f"after {counted(run.total_steps, 'step')}, batch norm's statistics are still "
            f"{share:.0%} initial values; they are measured again at the end, over "
            f"{SETTLING_BATCHES} batches"
        )
    if run.world.size > 1 and run.device.type == "cpu":
        notes.append("on CPUs batch norm sees only each process's share of the batch")
    return notes


def _assemble(recipe: Recipe, dataset: Dataset, world: World) -> TrainingRun:
    training, validation = _split(recipe, dataset)
    return TrainingRun(recipe, training, validation, choose_device(recipe.run.device, world), world)


def _split(recipe: Recipe, dataset: Dataset) -> tuple[LabelledImages, LabelledImages]:
    """Return the training images and those of the held-out classes."""
    if not len(dataset.train):
        raise DataError(
            f"{recipe.data.spec} has no training part; add one with labelled classes (train/ in a "
            "folder), or pass another --data"
        )
    if recipe.data.fold_of is not None:
        number, count = recipe.data.fold_of
        return cross_validation_folds(dataset.train, count)[number - 1]
    if not recipe.data.holds_out:
        return dataset.train, dataset.train.subset([])
    return validation_split(dataset.train, recipe.data.validation_fraction, recipe.data.split_seed)


def _thread_count(recipe: Recipe, state: RunState | None) -> int:
    if recipe.run.threads:
        return recipe.run.threads
    return torch.get_num_threads() if state is None else state.threads


@contextmanager
def _threads(count: int) -> Iterator[int]:
    """Let torch compute with this many threads inside the block."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield count
    finally:
        torch.set_num_threads(before)


@contextmanager
def _interruptible() -> Iterator[Callable[[], bool]]:
    """Yield a function that returns whether SIGINT or SIGTERM came; a second one interrupts."""
    if threading.current_thread() is not threading.main_thread():
        yield lambda: False  # signals arrive in the main thread only
        return
    received: list[int] = []

    def note(number: int, frame: object) -> None:
        if received:
            raise KeyboardInterrupt
        received.append(number)

    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: bool(received)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
