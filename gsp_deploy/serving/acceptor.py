"""Accept a server's connections one at a time, and never more than it may hold."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import ssl
from collections.abc import Callable, Set

from gsp_deploy.errors import reason_of

PAUSE = 1.0  # seconds without a new connection if the system cannot give one
_BUSY = (
    b"HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/json\r\nRetry-After: 1\r\n"
    b"Connection: close\r\nContent-Length: 59\r\n\r\n"
    b'{"error": "the server has too many connections; try later"}'
)

log = logging.getLogger("gsp_deploy.serving")


class Acceptor:
    """Accept connections of a listening socket until closed.

    asyncio's own server accepts a whole backlog before it asks anybody, and knows nothing of a
    connection whose handshake of TLS has not ended. Here each one counts from the moment that it
    is accepted. With `most` of them open, a new one gets 503 and is closed; a client that speaks
    TLS gets no answer, because that would take a handshake.

    Args:
        listener: a listening socket that does not block.
        create: makes the protocol of one connection.
        connections: the protocols with an open connection.
        most: how many connections may be open.
        tls: for HTTPS; None accepts HTTP.
        handshake_s: seconds that a client has for TLS's handshake.
    """

    def __init__(
        self,
        listener: socket.socket,
        create: Callable[[], asyncio.Protocol],
        connections: Set[asyncio.Protocol],
        most: int,
        tls: ssl.SSLContext | None,
        handshake_s: float,
    ) -> None:
        self._create = create
        self._connections = connections
        self._most = most
        self._tls = tls
        self._handshake_s = handshake_s if tls else None
        self._starting: dict[asyncio.Protocol, asyncio.Task[None]] = {}
        self._accepting = asyncio.create_task(self._accept(listener))

    @property
    def open(self) -> int:
        """The number of open connections, with those in TLS's handshake."""
        starting = sum(protocol not in self._connections for protocol in self._starting)
        return starting + len(self._connections)

    def close(self) -> None:
        """Accept nothing more, and end the handshakes."""
        for task in (self._accepting, *self._starting.values()):
            task.cancel()

    async def wait_closed(self) -> None:
        """Wait until nothing can be accepted."""
        await asyncio.wait({self._accepting, *self._starting.values()})

    async def _accept(self, listener: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                connection, _ = await loop.sock_accept(listener)
            except ConnectionAbortedError:  # the client has gone already
                continue
            except OSError as error:
                log.error("cannot accept a connection: %s", reason_of(error))
                await asyncio.sleep(PAUSE)
                continue
            if self.open < self._most:
                protocol = self._create()
                self._starting[protocol] = loop.create_task(self._start(protocol, connection))
            else:
                self._refuse(connection)
            await asyncio.sleep(0)  # the connections that are there have their turn

    async def _start(self, protocol: asyncio.Protocol, connection: socket.socket) -> None:
        try:
            with contextlib.suppress(OSError):  # the client's handshake failed, or it has gone
                await asyncio.get_running_loop().connect_accepted_socket(
                    lambda: protocol,
                    connection,
                    ssl=self._tls,
                    ssl_handshake_timeout=self._handshake_s,
                )
        finally:
            del self._starting[protocol]

    def _refuse(self, connection: socket.socket) -> None:
        log.warning("connections are refused: %d are open, which is the limit", self._most)
        with connection, contextlib.suppress(OSError):
            if self._tls is None:
                connection.send(_BUSY)
