"""Run the application on a socket until a signal, and stop without losing a request."""

from __future__ import annotations

import asyncio
import logging
import signal
import socket
import ssl
import threading
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from functools import partial
from types import FrameType
from typing import Any

import uvicorn

from gsp_deploy.base.progress import Announce
from gsp_deploy.errors import GspDeployError, UsageError, reason_of
from gsp_deploy.serving.acceptor import Acceptor
from gsp_deploy.serving.app import EmbeddingService
from gsp_deploy.serving.connection import BoundedConnection
from gsp_deploy.serving.descriptors import most_connections
from gsp_deploy.serving.log_rate import one_line_a_second
from gsp_deploy.serving.settings import ServingSettings

log = logging.getLogger("gsp_deploy.serving")
BACKLOG = 1024
SEND_BUFFER = 1 << 18  # bytes
_STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class EmbeddingServer(uvicorn.Server):
    """Serve until a signal, then answer all accepted requests.

    On SIGTERM the server is no longer ready, and closes each connection after its answer. It goes
    on serving for `linger_s`, so that load balancers can notice. Then it accepts nothing new and
    answers the accepted requests, for at most `drain_s`. SIGINT skips `linger_s`; a second signal
    ends everything at once.

    Attributes:
        unread: answers that were cut off at the end, because their clients had not read them.
    """

    def __init__(
        self,
        service: EmbeddingService,
        settings: ServingSettings,
        announce: Announce | None = None,
    ) -> None:
        connection = partial(
            BoundedConnection,
            head_s=settings.head_s,
            write_s=settings.write_s,
        )
        config = uvicorn.Config(
            service.app,
            http=connection,  # type: ignore[arg-type]
            ws="none",
            loop="asyncio",
            lifespan="on",
            log_config=None,
            access_log=False,
            server_header=False,
            timeout_keep_alive=settings.keep_alive_s,  # type: ignore[arg-type]
            timeout_graceful_shutdown=max(1, round(settings.drain_s)),
            ssl_certfile=settings.tls.certificate if settings.tls else None,
            ssl_keyfile=settings.tls.key if settings.tls else None,
        )
        _load(config)
        super().__init__(config)
        self._service = service
        self._linger_s = settings.linger_s
        self._head_s = settings.head_s
        self._most = most_connections(settings.max_connections)
        self._announce = announce or (lambda message: None)
        self._drains_at: float | None = None
        self.unread = 0

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Begin to stop, or end at once if already stopping."""
        if self._drains_at is not None:
            self.should_exit = self.force_exit = True
            return
        self._service.is_leaving = True
        self._drains_at = time.monotonic() + (self._linger_s if sig == signal.SIGTERM else 0)
        self._announce(f"stopping: {self._service.admission.images} images still to be answered")

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start; an error of the system becomes one line in the log, without a traceback.

        uvicorn would leave the accepting to asyncio's server; an `Acceptor` does it instead.
        """
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(_log_loop_error)
        loop.create_server = self._acceptor  # type: ignore[method-assign,assignment]
        await super().startup(sockets)

    async def _acceptor(
        self,
        create: Callable[[], asyncio.Protocol],
        *,
        sock: socket.socket,
        ssl: ssl.SSLContext | None,
        **_: object,
    ) -> Acceptor:
        sock.setblocking(False)
        connections = self.server_state.connections
        return Acceptor(sock, create, connections, self._most, ssl, self._head_s)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Answer the accepted requests, and count the answers that no client read."""
        await super().shutdown(sockets)
        self.unread = sum(
            connection.transport.get_write_buffer_size() > 0
            for connection in self.server_state.connections
        )

    async def on_tick(self, counter: int) -> bool:
        """Return whether to stop listening; uvicorn calls this ten times a second."""
        if self._drains_at is not None and time.monotonic() >= self._drains_at:
            self._service.admission.is_draining = True
            self.should_exit = True
        return await super().on_tick(counter)

    @contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        """Handle signals while the block runs; unlike uvicorn, do not raise them again."""
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
        GspDeployError: the address is not available.
    """
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        listener = socket.create_server((host, port), family=family, backlog=BACKLOG)
        # Accepted sockets inherit both. Without the first, an answer's body waits 40 ms for an ACK;
        # without the second, the system holds megabytes for each client that does not read.
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER)
        return listener
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise GspDeployError(
            f"cannot listen on {host} port {port}: {reason}; choose another --port or --host"
        ) from error


def address_of(listener: socket.socket, scheme: str = "http") -> str:
    """Return the URL that a listening socket is reached at."""
    host, port = listener.getsockname()[:2]
    return f"{scheme}://{f'[{host}]' if ':' in host else host}:{port}"


def serve(
    service: EmbeddingService,
    listener: socket.socket,
    settings: ServingSettings,
    announce: Announce | None = None,
) -> None:
    """Serve on a socket until SIGTERM or SIGINT, then drain.

    Args:
        service: the model and its limits.
        listener: from `listen`; closed on return.
        settings: how long draining may take.
        announce: called once, with a line that says that the server is stopping.

    Raises:
        UsageError: the files for TLS cannot be used, or the system allows too few descriptors.
        GspDeployError: the application did not start, or requests were dropped at the end.
    """
    server = EmbeddingServer(service, settings, announce)
    with one_line_a_second():
        try:
            server.run(sockets=[listener])
        except SystemExit as error:  # how uvicorn says that the application did not start
            raise GspDeployError("the server did not start; the log above says why") from error
        finally:
            service.finish()
    if dropped := service.app.dropped + server.unread:
        raise GspDeployError(
            f"stopped; {dropped} requests were dropped, {settings.drain_s:g} s were not enough to "
            "answer them; give the server more with --drain-seconds"
        )


def _load(config: uvicorn.Config) -> None:
    try:
        config.load()
    except (OSError, ssl.SSLError) as error:
        raise UsageError(
            f"cannot use {config.ssl_certfile} and {config.ssl_keyfile} for TLS: "
            f"{reason_of(error)}; expected a certificate and its private key as PEM files"
        ) from error


def _log_loop_error(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    error = context.get("exception")
    if isinstance(error, OSError):
        log.error("%s: %s", context.get("message"), reason_of(error))
    else:
        loop.default_exception_handler(context)
