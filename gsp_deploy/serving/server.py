"""Running the application on a socket until told to stop, and stopping without losing a request."""

from __future__ import annotations

import signal
import socket
import threading
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from functools import partial
from types import FrameType

import uvicorn

from gsp_deploy.errors import GspDeployError
from gsp_deploy.serving.app import EmbeddingService
from gsp_deploy.serving.connection import BoundedConnection
from gsp_deploy.serving.settings import ServingSettings

BACKLOG = 1024
_STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class EmbeddingServer(uvicorn.Server):
    """Serves until it is told to stop, and then loses nothing.

    SIGTERM: at once it is no longer ready and closes each connection with its answer, but goes on
    serving for `linger_s`, while load balancers look elsewhere. Then it takes nothing new and
    answers what it has accepted, for at most `drain_s`. SIGINT goes straight to that; a second
    signal ends everything.
    """

    def __init__(
        self,
        service: EmbeddingService,
        settings: ServingSettings,
        announce: Callable[[str], None] | None = None,
    ) -> None:
        config = uvicorn.Config(
            service.app,
            http=partial(BoundedConnection, head_s=settings.head_s),  # type: ignore[arg-type]
            ws="none",
            lifespan="on",
            log_config=None,
            access_log=False,
            server_header=False,
            timeout_keep_alive=settings.keep_alive_s,  # type: ignore[arg-type]
            timeout_graceful_shutdown=max(1, round(settings.drain_s)),
        )
        super().__init__(config)
        self._service = service
        self._linger_s = settings.linger_s
        self._announce = announce or (lambda message: None)
        self._drains_at: float | None = None

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Begin to leave, or end at once when already leaving."""
        if self._drains_at is not None:
            self.should_exit = self.force_exit = True
            return
        self._service.is_leaving = True
        self._drains_at = time.monotonic() + (self._linger_s if sig == signal.SIGTERM else 0)
        self._announce(f"stopping: {self._service.admission.images} images still to be answered")

    async def on_tick(self, counter: int) -> bool:
        """Be called ten times a second by uvicorn; return whether to stop listening."""
        if self._drains_at is not None and time.monotonic() >= self._drains_at:
            self._service.admission.is_draining = True
            self.should_exit = True
        return await super().on_tick(counter)

    @contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        """Handle signals while the block runs; unlike uvicorn's, do not die of them afterwards."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.signal(number, self.handle_exit) for number in _STOP_SIGNALS}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def listen(host: str, port: int) -> socket.socket:
    """Return a listening socket; port 0 takes any free one.

    Raises:
        GspDeployError: the address cannot be had.
    """
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        listener = socket.create_server((host, port), family=family, backlog=BACKLOG)
        # Accepted sockets inherit it. Without it an answer's body waits 40 ms for an ACK.
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return listener
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise GspDeployError(
            f"cannot listen on {host} port {port}: {reason}; choose another --port or --host"
        ) from error


def address_of(listener: socket.socket) -> str:
    """Return the URL that a listening socket is reached at."""
    host, port = listener.getsockname()[:2]
    return f"http://{f'[{host}]' if ':' in host else host}:{port}"


def serve(
    service: EmbeddingService,
    listener: socket.socket,
    settings: ServingSettings,
    announce: Callable[[str], None] | None = None,
) -> None:
    """Serve on a socket until SIGTERM or SIGINT, then drain.

    Args:
        service: the model and its limits.
        listener: from `listen`; closed on return.
        settings: how long draining may take.
        announce: told once that the server is stopping.

    Raises:
        GspDeployError: the application did not start, or accepted images were left unanswered.
    """
    server = EmbeddingServer(service, settings, announce)
    server.run(sockets=[listener])
    if not server.started:
        raise GspDeployError("the server did not start; the log above says why")
    if left := service.admission.images:
        raise GspDeployError(
            f"{left} images were not answered within the {settings.drain_s:g} s for draining; "
            "give it more with --drain-seconds"
        )
