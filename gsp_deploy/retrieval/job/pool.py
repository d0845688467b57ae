"""Run tasks on this machine: in this process, or in one process per core or GPU."""

from __future__ import annotations

import dataclasses
import multiprocessing
import os
import threading
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from itertools import islice
from multiprocessing import connection
from multiprocessing.queues import SimpleQueue
from pathlib import Path

from gsp_deploy.base.cores import available_cores
from gsp_deploy.base.interrupts import held_interrupts
from gsp_deploy.errors import GspDeployError
from gsp_deploy.retrieval.dataset.layout import Part
from gsp_deploy.retrieval.job.worker import Job, Task, Worker

_NVIDIA = Path("/proc/driver/nvidia/gpus")
_worker: Worker | None = None


def run_here(job: Job, tasks: Iterable[Task], workers: int) -> Iterator[Part]:
    """Embed slices on this machine, and yield every part when it is on disk.

    Args:
        job: what the workers need to know.
        tasks: taken one by one, no further ahead than two per worker.
        workers: processes; on GPUs they are dealt out in turn. One worker needs no process.

    Raises:
        GspDeployError: a worker fails, or its process is killed; finished parts stay.
    """
    rest = iter(tasks)
    first = list(islice(rest, workers))
    if len(first) <= 1:
        with Worker(job) as worker:
            for task in (*first, *rest):
                yield from worker.embed(task)
        return
    yield from _run_processes(job, first, rest)


def default_workers(device: str) -> int:
    """Return one worker per GPU for `cuda`, one for `cuda:N`, and one per core for `cpu`."""
    if device == "cuda":
        return max(1, len(visible_gpus()))
    return 1 if device.startswith("cuda") else available_cores()


def visible_gpus() -> list[int]:
    """Return the numbers of the GPUs that this process may use, as CUDA counts them."""
    allowed = os.environ.get("CUDA_VISIBLE_DEVICES")
    if allowed is not None:
        return list(range(len([name for name in allowed.split(",") if name.strip()])))
    return list(range(len(list(_NVIDIA.iterdir())))) if _NVIDIA.is_dir() else []


def _run_processes(job: Job, first: list[Task], rest: Iterator[Task]) -> Iterator[Part]:
    context = multiprocessing.get_context("spawn")
    devices: SimpleQueue[str] = context.SimpleQueue()
    for number in range(len(first)):
        devices.put(_device_of(job.options.device, number))
    pool = ProcessPoolExecutor(len(first), context, _open, (job, devices))
    with held_interrupts():  # the workers start here; this process ends them
        waiting = deque(pool.submit(_embed, task) for task in first)
    try:
        for task in islice(rest, len(first)):
            waiting.append(pool.submit(_embed, task))
        while waiting:
            yield from waiting.popleft().result()
            for task in islice(rest, 1):
                waiting.append(pool.submit(_embed, task))
    except BrokenProcessPool as error:
        raise GspDeployError(
            "a worker was killed, perhaps because memory ran out; finished parts stay valid: run "
            "the same command again, with fewer --workers or a smaller --batch"
        ) from error
    finally:
        for process in list((pool._processes or {}).values()):
            process.terminate()  # one that fails or is interrupted does not wait for the others
        pool.shutdown(wait=True, cancel_futures=True)


def _device_of(device: str, number: int) -> str:
    gpus = visible_gpus()
    return f"cuda:{gpus[number % len(gpus)]}" if device == "cuda" and gpus else device


def _open(job: Job, devices: SimpleQueue[str]) -> None:
    """Open the model in a new worker process, which ends when its parent does."""
    global _worker
    threading.Thread(target=_end_with_parent, daemon=True).start()
    options = dataclasses.replace(job.options, device=devices.get())
    _worker = Worker(dataclasses.replace(job, options=options))


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        connection.wait([parent.sentinel])
        os._exit(1)


def _embed(task: Task) -> list[Part]:
    assert _worker is not None
    return list(_worker.embed(task))
