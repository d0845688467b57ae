"""Limit how long a client can hold a connection."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

# Slowest allowed reading, bytes/s: an answer of N bytes gets N / SLOWEST_READ more seconds.
SLOWEST_READ = 1 << 16

log = logging.getLogger("gsp_deploy.serving")


class BoundedConnection(H11Protocol):
    """HTTP/1.1 with a time limit for everything that the client has to send or read.

    The client has `head_s` seconds from connecting, or from the first byte after a pause, to the
    end of a request's head. It has as long from an early answer to the end of the body. More bytes
    do not restart the time; when it is over, the connection is cut. While the server waits for a
    body, the request's own time limit counts, and between two requests uvicorn's keep-alive.

    A client must also read its answer: from the first byte that the system cannot buffer, it has
    `write_s` seconds, and one more for every `SLOWEST_READ` bytes. When the server closes the
    connection, the client has as long to agree, as TLS asks it to.
    """

    def __init__(self, *args: Any, head_s: float, write_s: float, **settings: Any) -> None:
        super().__init__(*args, **settings)
        self._head_s = head_s
        self._write_s = write_s
        self._deadline: asyncio.TimerHandle | None = None
        self._write_deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Start the clock for the first head."""
        super().connection_made(transport)
        # pause_writing comes with the first byte. Under TLS a limit of 0 pauses an empty buffer.
        is_tls = transport.get_extra_info("sslcontext") is not None
        transport.set_write_buffer_limits(high=1 if is_tls else 0)
        self._watch()

    def data_received(self, data: bytes) -> None:
        """Handle received bytes, then start or stop the client's clock."""
        try:
            super().data_received(data)
        except Exception as error:  # any error of the parser: only this client's connection is cut
            log.warning("a connection was cut: its bytes cannot be read (%s)", type(error).__name__)
            self.transport.abort()
        self._watch()

    def on_response_complete(self) -> None:
        """Note the end of an answer, then start or stop the client's clock."""
        super().on_response_complete()
        self._watch()

    def shutdown(self) -> None:
        """Close the connection, or let it close after its answer."""
        super().shutdown()
        self._watch()

    def pause_writing(self) -> None:
        """Start the clock for an answer that the client is not reading."""
        super().pause_writing()
        self._start_writing_clock()

    def resume_writing(self) -> None:
        """Stop that clock, because the client has read everything."""
        self._stop_writing_clock()
        super().resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop the clocks."""
        self._stop()
        self._stop_writing_clock()
        super().connection_lost(exc)

    def _watch(self) -> None:
        if self.transport.is_closing():
            self._start_writing_clock()
        if not self._is_clients_turn():
            self._stop()
        elif self._deadline is None:
            self._deadline = self.loop.call_later(self._head_s, self.transport.abort)

    def _is_clients_turn(self) -> bool:
        if self.conn.their_state is h11.IDLE:
            return self.timeout_keep_alive_task is None
        return self.conn.their_state is h11.SEND_BODY and self.cycle.response_complete

    def _stop(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _start_writing_clock(self) -> None:
        if self._write_deadline is None:
            seconds = self._write_s + self.transport.get_write_buffer_size() / SLOWEST_READ
            self._write_deadline = self.loop.call_later(seconds, self.transport.abort)

    def _stop_writing_clock(self) -> None:
        if self._write_deadline is not None:
            self._write_deadline.cancel()
            self._write_deadline = None
