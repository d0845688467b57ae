"""Write a run's files in an order that keeps them consistent if the process is killed."""

from __future__ import annotations

import copy
from pathlib import Path

from torch import Tensor

from gsp_deploy.base.files import write_text
from gsp_deploy.base.origin import TOML_MARK
from gsp_deploy.checkpoint import Provenance, save_checkpoint
from gsp_deploy.errors import UsageError
from gsp_deploy.training.log import CsvLog, TensorBoardLog
from gsp_deploy.training.recipe import Recipe, parse_recipe
from gsp_deploy.training.recipe_files import tables_of
from gsp_deploy.training.records import StepRecord
from gsp_deploy.training.run import TrainingRun
from gsp_deploy.training.state import Best, RunFolder, RunProgress, RunState, save_state

_MOST_SHOWN = 6  # settings in one line


class Journal:
    """Writes the files of a run while it trains.

    Args:
        files: the run's folder.
        run: the run to write.
        state: the state from which the run continues, or None for a new run.
        command: the command that started the run; the checkpoints contain it.
        threads: torch's number of threads.
    """

    def __init__(
        self,
        files: RunFolder,
        run: TrainingRun,
        state: RunState | None,
        command: str | None,
        threads: int,
    ) -> None:
        self.files, self.run, self.threads = files, run, threads
        self.command = command if state is None else state.command
        self.data = run.data_fingerprint()
        self.notes: list[str] = []
        step = 0 if state is None else state.progress.step
        write_text(files.recipe, f"{TOML_MARK}\n{run.recipe.to_toml()}")
        self._csv = CsvLog(files.log, step)
        self._tensorboard = self._open_tensorboard(step)
        self._published: int | None = None
        if state is not None:
            self._publish(state.progress, state.best)

    def record(self, record: StepRecord, metrics: dict[str, float]) -> None:
        """Log a step if it is due, or if it has a validation."""
        if metrics or record.step % self.run.recipe.run.log_every == 0:
            self._csv.write(record, metrics)
            if self._tensorboard is not None:
                self._tensorboard.write(record, metrics)

    def save(self, progress: RunProgress, best: Best | None, *, publish: bool) -> None:
        """Save the state; with `publish` also write the checkpoints from it.

        The log is flushed to disk first, because a state must not be ahead of the log.
        """
        self._csv.sync()
        save_state(
            RunState(
                recipe=self.run.recipe.to_toml(),
                data=self.data,
                command=self.command,
                threads=self.threads,
                progress=progress,
                best=best,
                tensors=self.run.tensors(),
            ),
            self.files.state,
        )
        if publish:
            self._publish(progress, best)

    def close(self) -> None:
        """Close the logs."""
        self._csv.close()
        if self._tensorboard is not None:
            self._tensorboard.close()

    def _publish(self, progress: RunProgress, best: Best | None) -> None:
        weights = self.run.model.state_dict()
        self._checkpoint(self.files.last, weights, progress.step, progress.metrics)
        if best is not None and best.step != self._published:
            self._checkpoint(self.files.best, best.weights, best.step, best.metrics)
            self._published = best.step

    def _checkpoint(
        self, path: Path, weights: dict[str, Tensor], step: int, metrics: dict[str, float]
    ) -> None:
        recipe, images = self.run.recipe, self.run.validation
        about = [
            recipe.provenance.notes,
            f"step {step} of {self.run.total_steps}",
            f"validation on {len(images)} images of {images.num_classes} held-out classes"
            if metrics
            else None,
        ]
        provenance = Provenance(
            license=recipe.provenance.license,
            dataset=recipe.data.spec,
            command=self.command,
            metrics=metrics,
            notes="; ".join(note for note in about if note),
        )
        model = copy.deepcopy(self.run.model).cpu()
        model.load_state_dict(weights)
        save_checkpoint(model, path, provenance)

    def _open_tensorboard(self, step: int) -> TensorBoardLog | None:
        if not self.run.recipe.run.tensorboard:
            return None
        try:
            return TensorBoardLog(self.files.tensorboard, step)
        except ImportError:
            self.notes.append("no TensorBoard log: the package tensorboard is not installed")
            return None


def check_recipe(state: RunState, recipe: Recipe, files: RunFolder) -> None:
    """Raise `UsageError` unless the run began with this recipe."""
    stored = parse_recipe(tables_of(state.recipe, str(files.state)), str(files.state))
    if found := stored.differences(recipe):
        shown = [f"{key} = {_shown(old)}, not {_shown(new)}" for key, (old, new) in found.items()]
        more = f" and {len(shown) - _MOST_SHOWN} more" if len(shown) > _MOST_SHOWN else ""
        raise UsageError(
            f"{files.path} began with other settings: {'; '.join(shown[:_MOST_SHOWN])}{more}; "
            f"pass the same --set again or its own recipe ({files.recipe}), start over with "
            "--force, or choose another folder"
        )


def _shown(value: object) -> str:
    return "nothing" if value is None else str(value)


def check_images(state: RunState, run: TrainingRun, files: RunFolder) -> None:
    """Raise `UsageError` unless the run began with these images."""
    if state.data != run.data_fingerprint():
        raise UsageError(
            f"{files.path} began with other images than {run.recipe.data.spec} has now; "
            "restore them, start over with --force, or choose another folder"
        )
