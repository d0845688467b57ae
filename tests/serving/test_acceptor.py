"""Connections are counted from the moment that they are accepted."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import socket
import ssl
from collections.abc import AsyncIterator, Callable

from gsp_deploy.serving import acceptor
from gsp_deploy.serving.acceptor import Acceptor


class Counted(asyncio.Protocol):
    """A protocol that belongs to `connections` while its connection is open."""

    def __init__(self, connections: set[asyncio.Protocol]) -> None:
        self._connections = connections

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._connections.add(self)

    def connection_lost(self, error: Exception | None) -> None:
        self._connections.discard(self)


class Place:
    """An acceptor, and its clients."""

    def __init__(self, listener: socket.socket, accepting: Acceptor) -> None:
        self._address = listener.getsockname()
        self.accepting = accepting

    async def client(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection(*self._address)

    async def wait_until_open(self, count: int) -> None:
        while self.accepting.open != count:
            await asyncio.sleep(0.01)


@contextlib.asynccontextmanager
async def accepting(most: int, tls: ssl.SSLContext | None) -> AsyncIterator[Place]:
    connections: set[asyncio.Protocol] = set()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setblocking(False)
        made = Acceptor(listener, lambda: Counted(connections), connections, most, tls, 600)
        try:
            yield Place(listener, made)
        finally:
            made.close()
            await made.wait_closed()


async def all_that_comes(reader: asyncio.StreamReader) -> bytes:
    """Return what the server sends until it ends the connection."""
    try:
        return await reader.read()
    except ConnectionResetError:
        return b""


def run(test: Callable[[], object]) -> None:
    asyncio.run(asyncio.wait_for(test(), 60))


def test_handshakes_that_do_not_end_count_as_connections() -> None:
    """Otherwise a client that never begins TLS could take all of the process's descriptors."""

    async def test() -> None:
        async with accepting(3, ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)) as place:
            held = [await place.client() for _ in range(3)]
            await place.wait_until_open(3)
            for _ in range(5):
                reader, writer = await place.client()
                assert await all_that_comes(reader) == b""
                writer.close()
            assert place.accepting.open == 3
            for _, writer in held:
                writer.write(b"GET / HTTP/1.1\r\n\r\n")  # which is not TLS
            await place.wait_until_open(0)

    run(test)


def test_a_burst_never_opens_more_than_the_limit() -> None:
    async def test() -> None:
        async with accepting(3, None) as place:
            clients = await asyncio.gather(*(place.client() for _ in range(50)))
            refused = [asyncio.create_task(all_that_comes(reader)) for reader, _ in clients]
            while sum(task.done() for task in refused) < 47:
                assert place.accepting.open <= 3
                await asyncio.sleep(0.01)
            assert place.accepting.open == 3
            answers = [task.result() for task in refused if task.done()]
            assert all(answer.startswith(b"HTTP/1.1 503 ") for answer in answers)
            for _, writer in clients:
                writer.close()
            await place.wait_until_open(0)

    run(test)


def test_a_system_without_descriptors_is_one_line_and_a_pause(monkeypatch, caplog) -> None:
    monkeypatch.setattr(acceptor, "PAUSE", 0.0)
    failures = [OSError(errno.EMFILE, os.strerror(errno.EMFILE)), ConnectionAbortedError()]

    async def test() -> None:
        loop = asyncio.get_running_loop()
        accept = loop.sock_accept

        async def failing(listener: socket.socket) -> tuple[socket.socket, object]:
            if failures:
                raise failures.pop()
            return await accept(listener)

        monkeypatch.setattr(loop, "sock_accept", failing)
        async with accepting(3, None) as place:
            _, writer = await place.client()
            await place.wait_until_open(1)
            writer.close()
            await place.wait_until_open(0)

    run(test)
    (line,) = (record.getMessage() for record in caplog.records)
    assert line.startswith("cannot accept a connection: ")
    assert line.endswith("Too many open files")
