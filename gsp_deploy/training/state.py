"""Save and load a run's state, the one file from which a run continues.

`state.pt` contains weights, optimiser, losses, counters and the best weights so far, and is always
replaced as a whole. `last.safetensors` and `best.safetensors` are written after it, and a resumed
run cuts the log back to it. So the files agree even after a kill between two of them.
"""

from __future__ import annotations

import dataclasses
import pickle
import shutil
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gsp_deploy.base.files import replacing
from gsp_deploy.base.folders import stranger
from gsp_deploy.base.origin import made_here
from gsp_deploy.base.scratch import refusals_of, remove_left_behind
from gsp_deploy.checkpoint.integrity import damaged_record
from gsp_deploy.errors import CheckpointError, UsageError

FORMAT_VERSION = 1


@dataclass(frozen=True)
class RunFolder:
    """The files of a run."""

    path: Path

    @property
    def state(self) -> Path:
        """Everything that a resumed run needs."""
        return self.path / "state.pt"

    @property
    def best(self) -> Path:
        """The checkpoint with the best validation."""
        return self.path / "best.safetensors"

    @property
    def last(self) -> Path:
        """The checkpoint of the last save."""
        return self.path / "last.safetensors"

    @property
    def recipe(self) -> Path:
        """The recipe with every default filled in."""
        return self.path / "recipe.toml"

    @property
    def log(self) -> Path:
        """The log, one line per logged step."""
        return self.path / "log.csv"

    @property
    def tensorboard(self) -> Path:
        """TensorBoard's event files."""
        return self.path / "tensorboard"

    def check(self, *, resume: bool, force: bool) -> None:
        """Raise `UsageError` if the folder is not empty, unless `resume` or `force` is true."""
        if resume or not self.path.exists() or not any(self.path.iterdir()):
            return
        if not self.state.exists() and (name := self._foreign()):
            raise UsageError(
                f"{self.path} contains {name} but no training run; choose another folder"
            )
        if force:
            return
        raise UsageError(
            f"{self.path} is not empty; pass --resume to continue that run, "
            "--force to start over, or choose another folder"
        )

    def prepare(self, *, start_over: bool) -> None:
        """Create the folder, remove half-written files of killed runs, and the old run if asked."""
        with refusals_of(self.path):
            self.path.mkdir(parents=True, exist_ok=True)
        for file in self._files():
            remove_left_behind(file)
        if start_over:
            self._remove_run()

    def _foreign(self) -> str | None:
        """Return the name of a file that no run made, or None."""
        marked = (file for file in (self.recipe, self.best, self.last) if file.exists())
        mine = next((file.name for file in marked if not made_here(file)), None)
        return mine or stranger(self.path, self._names())

    def _names(self) -> list[str]:
        return [file.name for file in (*self._files(), self.tensorboard)]

    def _files(self) -> tuple[Path, ...]:
        return (self.state, self.best, self.last, self.recipe, self.log)

    def _remove_run(self) -> None:
        """Remove only the run's own files."""
        for file in self._files():
            file.unlink(missing_ok=True)
        shutil.rmtree(self.tensorboard, ignore_errors=True)


@dataclass(frozen=True)
class Best:
    """The best validation so far, with its weights."""

    step: int
    metrics: dict[str, float]
    weights: dict[str, Tensor]


@dataclass
class RunProgress:
    """Progress of a run.

    Attributes:
        step: number of steps done.
        metrics: metrics of the latest validation.
        without_gain: number of validations since the best one.
        drops: how often a plateau schedule has lowered the rate.
        plateau: what that schedule has seen since.
        finished: whether the run is complete.
    """

    step: int = 0
    metrics: dict[str, float] = field(default_factory=dict)
    without_gain: int = 0
    drops: int = 0
    plateau: dict[str, float] = field(default_factory=dict)
    finished: bool = False


@dataclass
class RunState:
    """The contents of `state.pt`.

    Attributes:
        recipe: the recipe as TOML.
        data: fingerprint of the training and validation images.
        command: the command that started the run; resuming keeps it.
        threads: torch's number of threads; the last bit of sums depends on it.
        progress: progress of the run.
        best: the best validation so far; None before the first.
        tensors: state dicts of model, objective, optimiser and gradient scaler.
    """

    recipe: str
    data: str
    command: str | None
    threads: int
    progress: RunProgress
    best: Best | None
    tensors: dict[str, Any]


def save_state(state: RunState, path: Path) -> None:
    """Write the state, whole or not at all; equal states result in equal bytes."""
    fields = {f.name: getattr(state, f.name) for f in dataclasses.fields(state)}
    fields["progress"] = dataclasses.asdict(state.progress)
    fields["best"] = None if state.best is None else vars(state.best)
    with replacing(path) as temporary:
        torch.save(_plain({"format": FORMAT_VERSION, **fields}), temporary)


def _plain(value: Any) -> Any:
    """Return a copy in which equal texts are one object and no tensors share memory.

    Pickle writes a shared object once and refers to it afterwards. A state from a run shares other
    objects than a state from a file, so without this copy their bytes would differ.
    """
    if isinstance(value, str):
        return sys.intern(value)
    if isinstance(value, Tensor):
        return value.detach().clone()
    if isinstance(value, dict):
        return {_plain(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)([_plain(item) for item in value])
    return value


def load_state(path: Path) -> RunState | None:
    """Read a state, or return None if the file does not exist.

    The file may contain only tensors and plain containers.

    Raises:
        CheckpointError: the file is damaged, hostile, or of another format.
    """
    if not path.exists():
        return None
    try:
        data = torch.load(path, map_location="cpu", weights_only=True)
        if record := damaged_record(path):
            raise CheckpointError(
                f"{path}: changed since it was saved (the checksum of {record} differs); fetch or "
                "copy it again, or start over with --force"
            )
        if data.pop("format") != FORMAT_VERSION:
            raise CheckpointError(
                f"{path}: another version of gsp-deploy wrote it; start over with --force"
            )
        data["progress"] = RunProgress(**data["progress"])
        data["best"] = None if data["best"] is None else Best(**data["best"])
        return RunState(**data)
    except (pickle.UnpicklingError, RuntimeError, EOFError, OSError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise CheckpointError(
            f"{path}: damaged, the run cannot be continued ({reason}); start over with --force"
        ) from error
    except (AttributeError, KeyError, TypeError) as error:
        raise CheckpointError(
            f"{path}: not the state of a training run; start over with --force"
        ) from error
