"""Processes that decode image files, and that are ended when a request exceeds its budget."""

from __future__ import annotations

import asyncio
import logging
import multiprocessing
import sys
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from multiprocessing.util import Finalize
from typing import Any

from gsp_deploy.config import PreprocessingSpec
from gsp_deploy.errors import GspDeployError, RequestError
from gsp_deploy.serving.decoding import (
    Decoded,
    DecodingLimits,
    Job,
    Refused,
    TooHeavy,
    decode_answer,
    decode_in_process,
    encode_job,
)
from gsp_deploy.serving.metrics import Metrics
from gsp_deploy.serving.settings import ServingSettings

LIGHT_SECONDS = 1.0  # a job that takes longer has to wait for a slot of the heavy ones
START_SECONDS = 60.0
PATIENCE = 0.1  # seconds that a decoder still has when nobody waits for its answer any more

log = logging.getLogger(__name__)


class OverBudgetError(GspDeployError):
    """A job took longer than it may; its process was ended."""


class DecoderEndedError(GspDeployError):
    """A decoder's process ended by itself amid a job."""


class Decoders:
    """Decodes requests' files in `settings.decoders` processes. An asynchronous context manager.

    A request is light by its number of pixels and by the time it takes. Heavy ones may use all
    processes but one, so they never keep the light ones waiting for longer than a light one takes.
    """

    def __init__(
        self, settings: ServingSettings, spec: PreprocessingSpec | None, metrics: Metrics
    ) -> None:
        self._settings = settings
        self._metrics = metrics
        self._start = None if spec is None else _starter(spec, settings.decoding_limits)
        self._waiting: dict[object, float] = {}

    async def __aenter__(self) -> Decoders:
        count = self._settings.decoders
        self._heavy_slots = asyncio.Semaphore(max(count - 1, 1))
        self._idle: asyncio.Queue[_Process] = asyncio.Queue()
        self._threads = ThreadPoolExecutor(count, thread_name_prefix="decoder")
        self._processes = [_Process(self._start) for _ in range(count) if self._start is not None]
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
        """Seconds that the light request waits that has waited longest for a process."""
        oldest = next(iter(self._waiting.values()), None)
        return 0.0 if oldest is None else time.monotonic() - oldest

    async def decode(self, body: bytes, content_type: str) -> Decoded:
        """Return the images in a request's body.

        Raises:
            RequestError: 400 for what cannot be decoded, 413 for what would cost too much.
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

    async def _longest_idle(self) -> _Process:
        """Return a process for a light request, and keep count of how long that takes."""
        ticket = object()
        self._waiting[ticket] = time.monotonic()
        try:
            return await self._idle.get()
        finally:
            del self._waiting[ticket]

    async def _run(
        self, process: _Process, job: Job, seconds: float
    ) -> Decoded | Refused | TooHeavy:
        """Run a job, and give the process back when the job has ended, however it does."""
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

    def _give_back(self, process: _Process) -> None:
        """Make a process idle again, started anew if it was ended."""
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

    def _give_back_started(self, process: _Process, starting: Future[None]) -> None:
        if not starting.cancelled() and (error := starting.exception()) is not None:
            log.error("a decoder did not start: %s", error)
        if not process.is_closed:
            self._idle.put_nowait(process)


class _Process:
    """One decoder: a process, and the pipe to it. Jobs run on it one at a time."""

    def __init__(self, start: Callable[[], tuple[BaseProcess, Connection]]) -> None:
        self._start = start
        self._process: BaseProcess | None = None
        self._pipe: Connection | None = None
        self._at_exit: Finalize | None = None
        self.is_closed = False

    @property
    def is_running(self) -> bool:
        """Whether the process is there to take a job."""
        return self._process is not None and self._process.exitcode is None

    def start(self) -> None:
        """Start the process and wait until it takes jobs.

        Raises:
            GspDeployError: it did not start.
        """
        self._clear()
        self._process, self._pipe = self._start()
        self._at_exit = Finalize(self, self._process.kill, exitpriority=100)
        try:
            if not self.is_closed and self._pipe.poll(START_SECONDS):
                self._pipe.recv_bytes()  # READY
                return
        except (EOFError, OSError):
            pass
        self._clear()
        raise GspDeployError("a process to decode images did not start; the log above says why")

    def run(self, message: bytes, seconds: float) -> bytes:
        """Return the process's answer to a message.

        Raises:
            OverBudgetError: there was none in time; the process has been ended.
            DecoderEndedError: the process ended before it answered.
        """
        if not self.is_running:
            self.start()
        assert self._pipe is not None
        assert self._process is not None
        try:
            self._pipe.send_bytes(message)
            if self._pipe.poll(seconds):
                return self._pipe.recv_bytes()
        except (EOFError, OSError) as error:
            self._process.join(START_SECONDS)
            code = self._process.exitcode
            raise DecoderEndedError(f"a decoder ended amid a job (exit code {code})") from error
        self._clear()
        raise OverBudgetError(f"a job took more than {seconds:g} s")

    def end(self) -> None:
        """End the process at once, whatever it does; safe from any thread."""
        if self._process is not None:
            self._process.kill()

    def close(self) -> None:
        """End the process for good."""
        self.is_closed = True
        self.end()

    def _clear(self) -> None:
        """End the process if it is running, and let go of what belonged to it."""
        if self._process is not None:
            self._process.kill()
            self._process.join(START_SECONDS)
        if self._pipe is not None:
            self._pipe.close()
        if self._at_exit is not None:
            self._at_exit.cancel()
        self._process = self._pipe = self._at_exit = None


def _starter(
    spec: PreprocessingSpec, limits: DecodingLimits
) -> Callable[[], tuple[BaseProcess, Connection]]:
    """Return a function that starts a decoder's process.

    Not by fork alone: a process with threads must not be copied. The fork server has imported
    what a decoder needs, so that a new one is there quickly.
    """
    method = "spawn" if sys.platform == "win32" else "forkserver"
    context: Any = multiprocessing.get_context(method)
    if method == "forkserver":
        context.set_forkserver_preload(["__main__", decode_in_process.__module__])

    def start() -> tuple[BaseProcess, Connection]:
        mine, theirs = context.Pipe()
        with theirs:
            process = context.Process(
                target=decode_in_process, args=(theirs, spec, limits), name="decoder"
            )
            process.start()
        return process, mine

    return start


def _end_if_running(running: Future[bytes], process: _Process) -> None:
    if not running.done():
        process.end()


def _call(
    loop: asyncio.AbstractEventLoop, function: Callable[..., None], *arguments: object
) -> None:
    """Call a function on the loop from another thread; do nothing when the loop has ended."""
    if not loop.is_closed():
        try:
            loop.call_soon_threadsafe(function, *arguments)
        except RuntimeError:  # it ended in between
            return
