"""Dynamic batching: run images of several requests in one batch."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np

from gsp_deploy.errors import GspDeployError
from gsp_deploy.runtime import EmbeddingSession
from gsp_deploy.serving.limits import Admission
from gsp_deploy.serving.metrics import Metrics
from gsp_deploy.serving.settings import ServingSettings

RESIDUAL = "residual"
Outputs = Mapping[str, np.ndarray]


@dataclass(eq=False)
class _Job:
    """One request's prepared images, and the future for its outputs."""

    images: np.ndarray
    outputs: tuple[str, ...]
    answer: asyncio.Future[Outputs]
    arrived: float = field(default_factory=time.monotonic)

    def goes_with(self, other: _Job) -> bool:
        """Whether both fit in one batch: the same size, type and outputs."""
        own, others = self.images, other.images
        return (own.shape[1:], own.dtype, self.outputs) == (
            others.shape[1:],
            others.dtype,
            other.outputs,
        )


class Batcher:
    """Run a session on batches gathered from requests, one batch at a time, oldest first.

    A batch starts when it is full, or when its oldest request has waited for the window. You may
    cancel a task that awaits `run`: its images do not run unless their batch has started. Use it
    as an asynchronous context manager; on exit, the running batch is finished.
    """

    def __init__(
        self,
        session: EmbeddingSession,
        settings: ServingSettings,
        metrics: Metrics,
        admission: Admission,
    ) -> None:
        self._session = session
        self._settings = settings
        self._metrics = metrics
        self._admission = admission
        self._waiting: deque[_Job] = deque()
        self._thread: ThreadPoolExecutor | None = None
        self._loop_task: asyncio.Task[None]

    async def __aenter__(self) -> Batcher:
        self._waiting.clear()
        self._arrival = asyncio.Event()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="inference")
        self._loop_task = asyncio.create_task(self._serve())
        return self

    async def __aexit__(self, *_: object) -> None:
        self._loop_task.cancel()
        await asyncio.gather(self._loop_task, return_exceptions=True)
        for job in self._waiting:
            job.answer.cancel()
        await asyncio.to_thread(self.finish)

    def finish(self) -> None:
        """Wait for the running batch, and start no other."""
        if self._thread is not None:
            self._thread.shutdown(cancel_futures=True)

    async def run(self, images: np.ndarray, outputs: Sequence[str]) -> Outputs:
        """Return outputs by name for images that `EmbeddingSession.prepare` has made.

        The model's residual, if it has one, always comes with them.

        Raises:
            GspDeployError: the session cannot run these images.
        """
        answer: asyncio.Future[Outputs] = asyncio.get_running_loop().create_future()
        self._waiting.append(_Job(images, tuple(outputs), answer))
        self._arrival.set()
        return await answer

    async def _serve(self) -> None:
        while True:
            await self._arrival.wait()
            await self._wait_for_company()
            if batch := self._take():
                await self._answer(batch)

    async def _wait_for_company(self) -> None:
        """Wait until the oldest job's batch is full or its window is over."""
        while self._gathered() < self._settings.max_batch:
            if not self._waiting:
                return
            over = self._waiting[0].arrived + self._settings.window_ms / 1000
            self._arrival.clear()
            try:
                await asyncio.wait_for(self._arrival.wait(), over - time.monotonic())
            except asyncio.TimeoutError:
                return

    def _gathered(self) -> int:
        """Return how many images the oldest job's batch would have now."""
        while self._waiting and self._waiting[0].answer.done():
            self._waiting.popleft()
        if not self._waiting:
            return 0
        oldest = self._waiting[0]
        return sum(len(job.images) for job in self._waiting if job.goes_with(oldest))

    def _take(self) -> list[_Job]:
        """Remove and return the oldest job and those that fit its batch of `max_batch` images."""
        batch: list[_Job] = []
        rest: list[_Job] = []
        images, is_full = 0, False
        for job in self._waiting:
            if job.answer.done():  # the client is gone
                continue
            belongs = not batch or job.goes_with(batch[0])
            is_full = is_full or bool(
                batch and belongs and images + len(job.images) > self._settings.max_batch
            )
            if belongs and not is_full:
                batch.append(job)
                images += len(job.images)
            else:
                rest.append(job)
        self._waiting = deque(rest)
        if rest:
            self._arrival.set()
        else:
            self._arrival.clear()
        return batch

    async def _answer(self, batch: list[_Job]) -> None:
        started = time.monotonic()
        for job in batch:
            self._metrics.queue_seconds.observe(started - job.arrived)
        try:
            found = await self._infer(batch)
        except Exception as error:  # any error of a runtime goes to the requests of the batch
            await self._blame(batch, error)
            return
        start = 0
        for job in batch:
            end = start + len(job.images)
            if not job.answer.done():
                job.answer.set_result({name: array[start:end] for name, array in found.items()})
            start = end

    async def _infer(self, batch: list[_Job]) -> Outputs:
        images = batch[0].images
        if len(batch) > 1:
            images = np.concatenate([job.images for job in batch])
        outputs = batch[0].outputs
        if RESIDUAL in self._session.info.outputs:
            outputs = tuple(dict.fromkeys((*outputs, RESIDUAL)))
        started = time.monotonic()
        loop = asyncio.get_running_loop()
        found = await loop.run_in_executor(self._thread, self._session.run, images, outputs)
        seconds, count = time.monotonic() - started, max(len(images), 1)
        self._metrics.inference_seconds.observe(seconds)
        self._metrics.batch_images.observe(len(images))
        self._metrics.images.inc(len(images))
        if RESIDUAL in found:
            self._metrics.observe_residuals(found[RESIDUAL], self._settings.residual_alert)
        self._admission.learn(count, seconds)
        return found

    async def _blame(self, batch: list[_Job], error: Exception) -> None:
        """Find the request that caused a failure: run each one again, alone."""
        if len(batch) > 1 and isinstance(error, GspDeployError):
            for job in batch:
                if not job.answer.done():
                    await self._answer([job])
            return
        for job in batch:
            if not job.answer.done():
                job.answer.set_exception(error)
