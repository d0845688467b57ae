"""A process that decodes image files, and that the server can kill."""

from __future__ import annotations

import multiprocessing
import sys
from collections.abc import Callable
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from multiprocessing.util import Finalize
from typing import Any

from gsp_deploy.config import PreprocessingSpec
from gsp_deploy.errors import GspDeployError
from gsp_deploy.serving.decoding import DecodingLimits, decode_in_process

START_SECONDS = 60.0


class OverBudgetError(GspDeployError):
    """A job exceeded its time, and its process was ended."""


class DecoderEndedError(GspDeployError):
    """A decoder's process ended by itself during a job."""


class DecoderProcess:
    """One decoder: a process, and the pipe to it. Jobs run on it one at a time."""

    def __init__(self, start: Callable[[], tuple[BaseProcess, Connection]]) -> None:
        self._start = start
        self._process: BaseProcess | None = None
        self._pipe: Connection | None = None
        self._at_exit: Finalize | None = None
        self.is_closed = False

    @property
    def is_running(self) -> bool:
        """Whether the process is running and can take a job."""
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
        raise GspDeployError(
            "a process to decode images did not start; look at the lines above, and if a script of "
            'yours starts the server, put that below: if __name__ == "__main__":'
        )

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
            raise DecoderEndedError(f"a decoder ended during a job (exit code {code})") from error
        self._clear()
        raise OverBudgetError(f"a job took more than {seconds:g} s")

    def end(self) -> None:
        """Kill the process at once; safe from any thread."""
        if self._process is not None:
            self._process.kill()

    def close(self) -> None:
        """End the process for good."""
        self.is_closed = True
        self.end()

    def _clear(self) -> None:
        """End the process if it is running, and release its pipe."""
        if self._process is not None:
            self._process.kill()
            self._process.join(START_SECONDS)
        if self._pipe is not None:
            self._pipe.close()
        if self._at_exit is not None:
            self._at_exit.cancel()
        self._process = self._pipe = self._at_exit = None


def starter(
    spec: PreprocessingSpec, limits: DecodingLimits
) -> Callable[[], tuple[BaseProcess, Connection]]:
    """Return a function that starts a decoder's process.

    It does not fork this process, because a process with threads must not be copied. A fork server
    has already imported what a decoder needs, so that a new decoder starts quickly.
    """
    method = "spawn" if sys.platform == "win32" else "forkserver"
    context: Any = multiprocessing.get_context(method)
    if method == "forkserver":
        context.set_forkserver_preload(["__main__", decode_in_process.__module__])

    def start() -> tuple[BaseProcess, Connection]:
        here, there = context.Pipe()
        with there:
            process = context.Process(
                target=decode_in_process, args=(there, spec, limits), name="decoder"
            )
            process.start()
        return process, here

    return start
