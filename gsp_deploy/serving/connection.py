"""A connection that a slow or silent client cannot hold for ever."""

from __future__ import annotations

import asyncio
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol


class BoundedConnection(H11Protocol):
    """HTTP/1.1 whose client has `head_s` seconds where it is the client's turn.

    That is from connecting, or from the first byte after a pause, to the end of a request's head;
    and from an answer to the end of a body that the answer did not wait for. However many bytes
    come, the time does not begin anew; then the connection is cut. A body that is waited for is
    bounded by the request's own time, and a pause between two requests by uvicorn's keep-alive.
    """

    def __init__(self, *args: Any, head_s: float, **settings: Any) -> None:
        super().__init__(*args, **settings)
        self._head_s = head_s
        self._deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Start the clock of the first head."""
        super().connection_made(transport)
        self._watch()

    def data_received(self, data: bytes) -> None:
        """Take what came, and see whose turn it is."""
        super().data_received(data)
        self._watch()

    def on_response_complete(self) -> None:
        """Take note of an answer, and see whose turn it is."""
        super().on_response_complete()
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop the clock."""
        self._stop()
        super().connection_lost(exc)

    def _watch(self) -> None:
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
