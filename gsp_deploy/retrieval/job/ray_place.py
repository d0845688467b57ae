"""A Ray cluster as the place of the workers: Ray Data's actor pool embeds the slices.

Ray Data schedules, autoscales, and repeats the work of a worker that dies. Every machine of the
cluster must see the model, the sources and the output folder under the same paths. You need the
package `ray[data]`, from the extra `ray`.
"""

from __future__ import annotations

import dataclasses
import logging
import pickle
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import ray
import ray.data
import ray.exceptions

from gsp_deploy.errors import GspDeployError, MissingCapabilityError, flattened
from gsp_deploy.retrieval.dataset.layout import EmbeddingSettings, Part
from gsp_deploy.retrieval.job.settings import Wanted, settings_of
from gsp_deploy.retrieval.job.worker import Job, Task, Worker
from gsp_deploy.runtime import SessionOptions

# Slices that are handed to Ray Data at once; each is some ten kilobytes.
WINDOW = 1024


@dataclass(frozen=True)
class RayCluster:
    """A Ray cluster; without an address, RAY_ADDRESS names it, or one starts on this machine.

    Attributes:
        device: `cpu` or `cuda`; each worker then has one GPU.
        workers: most workers; None lets the pool grow with the cluster.
        address: of the cluster, as `ray.init` takes it.
    """

    device: str
    workers: int | None = None
    address: str | None = None

    @property
    def decoders(self) -> int:
        """Decoding threads of one worker."""
        return 2

    def settings_of(
        self, model: Path, options: SessionOptions, wanted: Wanted
    ) -> EmbeddingSettings:
        """Open the model on the cluster, since this machine may have no GPU.

        Raises:
            MissingCapabilityError: the cluster cannot be reached.
        """
        with self._connected(), _in_one_line():
            task = ray.remote(_settings).options(**self._resources(options))
            found = ray.get(task.remote(model, self._on_worker(options), wanted))
            return _raised(found)

    def run(self, job: Job, tasks: Iterable[Task]) -> Iterator[Part]:
        """Embed slices in an actor pool; yield the parts of every slice when all are on disk.

        Raises:
            GspDeployError: a worker fails; finished parts stay valid.
        """
        job = dataclasses.replace(job, options=self._on_worker(job.options))
        rest = iter(tasks)
        with self._connected(), _in_one_line():
            while window := [_packed(job, task) for task in islice(rest, WINDOW)]:
                rows = ray.data.from_items(window, override_num_blocks=len(window)).map_batches(
                    _Embedder,
                    batch_size=1,
                    compute=ray.data.ActorPoolStrategy(min_size=1, max_size=self.workers),
                    **self._resources(job.options),
                )
                for row in rows.iter_rows():
                    yield from _raised(pickle.loads(row["parts"]))

    def _resources(self, options: SessionOptions) -> dict[str, Any]:
        on_gpu = self.device.startswith("cuda")
        return {"num_cpus": options.threads or 1, **({"num_gpus": 1} if on_gpu else {})}

    def _on_worker(self, options: SessionOptions) -> SessionOptions:
        """Return the options for a worker, which sees only its own GPU."""
        return dataclasses.replace(options, device=self.device.partition(":")[0])

    @contextmanager
    def _connected(self) -> Iterator[None]:
        if ray.is_initialized():
            yield
            return
        try:
            ray.init(self.address, logging_level=logging.ERROR, log_to_driver=False)
        except (ConnectionError, ValueError, RuntimeError) as error:
            where = self.address or "on this machine"
            raise MissingCapabilityError(
                f"no Ray cluster {where} ({flattened(error)}); check --address"
            ) from error
        context = ray.data.DataContext.get_current()
        context.enable_progress_bars = False
        logging.getLogger("ray.data").setLevel(logging.ERROR)
        try:
            yield
        finally:
            ray.shutdown()


class _Embedder:
    """A worker as Ray Data calls it: a batch is one slice."""

    def __init__(self) -> None:
        self._worker: Worker | None = None

    def __call__(self, batch: dict[str, np.ndarray]) -> dict[str, list[bytes]]:
        found = []
        for packed in batch["item"]:
            job, task = _unpacked(packed)
            try:
                self._worker = self._worker or Worker(job)
                parts: object = list(self._worker.embed(task))
            except GspDeployError as error:
                parts = error
            found.append(pickle.dumps(parts))
        return {"parts": found}


def _settings(model: Path, options: SessionOptions, wanted: Wanted) -> Any:
    try:
        return settings_of(model, options, wanted)
    except GspDeployError as error:
        return error


def _raised(found: Any) -> Any:
    if isinstance(found, GspDeployError):
        raise found
    return found


def _packed(job: Job, task: Task) -> bytes:
    return zlib.compress(pickle.dumps((job, task)))


def _unpacked(packed: bytes) -> tuple[Job, Task]:
    """Return a job and a task that this run's own driver has packed."""
    return pickle.loads(zlib.decompress(packed))


@contextmanager
def _in_one_line() -> Iterator[None]:
    try:
        yield
    except ray.exceptions.RayError as error:
        raise GspDeployError(
            f"Ray gave up ({flattened(error)}); finished parts stay valid: run the same command "
            "again"
        ) from error
