"""Decode image files in processes, which are ended if a request exceeds its budget."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

from gsp_deploy.config import PreprocessingSpec
from gsp_deploy.errors import RequestError
from gsp_deploy.serving.decoder_process import (
    DecoderEndedError,
    DecoderProcess,
    OverBudgetError,
    starter,
)
from gsp_deploy.serving.decoding import (
    Decoded,
    Job,
    Refused,
    TooHeavy,
    decode_answer,
    encode_job,
)
from gsp_deploy.serving.metrics import Metrics
from gsp_deploy.serving.settings import ServingSettings

LIGHT_SECONDS = 1.0  # a job that takes longer has to wait for a slot of the heavy ones
PATIENCE = 0.1  # seconds until a decoder is ended after its client has gone

log = logging.getLogger("gsp_deploy.serving")


class Decoders:
    """Decodes requests' files in `settings.decoders` processes. An asynchronous context manager.

    A request is light if it has few pixels and decodes fast. Heavy requests may use all processes
    but one, so a light request never waits longer than other light ones take.
    """

    def __init__(
        self, settings: ServingSettings, spec: PreprocessingSpec | None, metrics: Metrics
    ) -> None:
        self._settings = settings
        self._metrics = metrics
        self._start = None if spec is None else starter(spec, settings.decoding_limits)
        self._waiting: dict[object, float] = {}

    async def __aenter__(self) -> Decoders:
        count = self._settings.decoders
        self._heavy_slots = asyncio.Semaphore(max(count - 1, 1))
        self._idle: asyncio.Queue[DecoderProcess] = asyncio.Queue()
        self._threads = ThreadPoolExecutor(count, thread_name_prefix="decoder")
        self._processes = [
            DecoderProcess(self._start) for _ in range(count) if self._start is not None
        ]
        loop = asyncio.get_running_loop()
        await asyncio.gather(
            *(loop.run_in_executor(self._threads, process.start) for process in self._processes)
        )
        for process in self._processes:
            self._idle.put_nowait(process)
        return self

    async def __aexit__(self, *_: object) -> None:
        for process in self._processes:
            process.close()
        self._threads.shutdown(wait=False, cancel_futures=True)

    @property
    def longest_wait(self) -> float:
        """Seconds that the oldest light request has waited for a process."""
        oldest = next(iter(self._waiting.values()), None)
        return 0.0 if oldest is None else time.monotonic() - oldest

    async def decode(self, body: bytes, content_type: str) -> Decoded:
        """Return the images in a request's body.

        Raises:
            RequestError: 400 if an image cannot be decoded, 413 if it would cost too much.
        """
        try:
            process = await self._longest_idle()
            seconds = min(LIGHT_SECONDS, self._settings.decode_s)
            answer = await self._run(process, Job(body, content_type, heavy=False), seconds)
        except OverBudgetError:
            answer = TooHeavy(0)
        if isinstance(answer, TooHeavy):
            answer = await self._decode_heavy(body, content_type)
        if isinstance(answer, Decoded):
            return answer
        assert isinstance(answer, Refused)
        raise RequestError(answer.status, answer.line)

    async def _decode_heavy(self, body: bytes, content_type: str) -> Decoded | Refused | TooHeavy:
        seconds = self._settings.decode_s
        try:
            async with self._heavy_slots:
                process = await self._idle.get()
                return await self._run(process, Job(body, content_type, heavy=True), seconds)
        except OverBudgetError as error:
            raise RequestError(
                413,
                f"decoding the images took more than the {seconds:g} s that a request has; "
                "send fewer or smaller images",
            ) from error

    async def _longest_idle(self) -> DecoderProcess:
        """Return a process for a light request, and record since when the request waits."""
        ticket = object()
        self._waiting[ticket] = time.monotonic()
        try:
            return await self._idle.get()
        finally:
            del self._waiting[ticket]

    async def _run(
        self, process: DecoderProcess, job: Job, seconds: float
    ) -> Decoded | Refused | TooHeavy:
        """Run a job, and give the process back when the job ends or fails."""
        loop, started = asyncio.get_running_loop(), time.monotonic()
        running = self._threads.submit(process.run, encode_job(job), seconds)
        running.add_done_callback(lambda _: _call(loop, self._give_back, process))
        try:
            message: bytes = await asyncio.wrap_future(running)
        except asyncio.CancelledError:
            loop.call_later(PATIENCE, _end_if_running, running, process)
            raise
        except DecoderEndedError as error:
            self._metrics.decoders_ended.inc()
            log.warning("%s", error)
            raise RequestError(
                400, "the images cannot be decoded: a decoder crashed on them"
            ) from error
        except OverBudgetError:
            self._metrics.decoders_ended.inc()
            raise
        self._metrics.decode_seconds.observe(time.monotonic() - started)
        return decode_answer(message)

    def _give_back(self, process: DecoderProcess) -> None:
        """Make a process idle again; restart it if it was ended."""
        if process.is_closed:
            return
        if process.is_running:
            self._idle.put_nowait(process)
            return
        loop = asyncio.get_running_loop()
        starting = self._threads.submit(process.start)
        starting.add_done_callback(
            lambda _: _call(loop, self._give_back_started, process, starting)
        )

    def _give_back_started(self, process: DecoderProcess, starting: Future[None]) -> None:
        if not starting.cancelled() and (error := starting.exception()) is not None:
            log.error("a decoder did not start: %s", error)
        if not process.is_closed:
            self._idle.put_nowait(process)


def _end_if_running(running: Future[bytes], process: DecoderProcess) -> None:
    if not running.done():
        process.end()


def _call(
    loop: asyncio.AbstractEventLoop, function: Callable[..., None], *arguments: object
) -> None:
    """Call a function on the loop from another thread; do nothing when the loop has ended."""
    if not loop.is_closed():
        try:
            loop.call_soon_threadsafe(function, *arguments)
        except RuntimeError:  # the loop ended in between
            return
