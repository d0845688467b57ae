"""The place where workers run: this machine or a Ray cluster, behind one interface."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Protocol

from gsp_deploy.base.cores import available_cores
from gsp_deploy.retrieval.dataset.layout import EmbeddingSettings, Part
from gsp_deploy.retrieval.job.pool import default_workers, run_here
from gsp_deploy.retrieval.job.settings import Wanted, settings_of
from gsp_deploy.retrieval.job.worker import Job, Task
from gsp_deploy.runtime import SessionOptions


class Place(Protocol):
    """Where models open and slices are embedded."""

    @property
    def decoders(self) -> int:
        """Decoding threads of one worker."""

    def settings_of(
        self, model: Path, options: SessionOptions, wanted: Wanted
    ) -> EmbeddingSettings:
        """Open the model there, and return the settings of the data set."""

    def run(self, job: Job, tasks: Iterable[Task]) -> Iterator[Part]:
        """Embed slices; yield every part when it is on disk."""


@dataclass(frozen=True)
class ThisMachine:
    """This machine, with one process per core or GPU unless `workers` says otherwise."""

    device: str
    workers: int | None = None

    @cached_property
    def _count(self) -> int:
        return self.workers or default_workers(self.device)

    @property
    def decoders(self) -> int:
        """The cores' share of one worker."""
        return max(1, available_cores() // self._count)

    def settings_of(
        self, model: Path, options: SessionOptions, wanted: Wanted
    ) -> EmbeddingSettings:
        """Open the model in this process; see `gsp_deploy.retrieval.job.settings`."""
        return settings_of(model, options, wanted)

    def run(self, job: Job, tasks: Iterable[Task]) -> Iterator[Part]:
        """Embed slices in processes; see `run_here`."""
        return run_here(job, tasks, self._count)
