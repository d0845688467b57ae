"""Connections of clients that are slow, silent or idle: cut in the end, and no other ones."""

from __future__ import annotations

import contextlib
import http.client
import itertools
import socket
import time
from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest

from .servers import RunningServer, png

PAUSE = 0.02
HEAD = b"POST /embed HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n"
ELSEWHERE = HEAD.replace(b"/embed", b"/nowhere")


@contextlib.contextmanager
def connected(running: RunningServer) -> Iterator[socket.socket]:
    address = urlsplit(running.url)
    with socket.create_connection((address.hostname, address.port), 60) as connection:
        yield connection


def answer_to(connection: socket.socket, at_once: bytes, slowly: Iterator[int]) -> bytes:
    """Send some bytes at once and more one by one; return all that comes until the connection ends.

    Raises:
        TimeoutError: it is not ended within a minute.
    """
    end, received = time.monotonic() + 60, b""
    with contextlib.suppress(ConnectionError):  # which is how a server's end shows when we send
        connection.sendall(at_once)
        connection.settimeout(PAUSE)
        while time.monotonic() < end:
            for byte in itertools.islice(slowly, 1):
                connection.sendall(bytes([byte]))
            with contextlib.suppress(TimeoutError):
                part = connection.recv(4096)
                if not part:
                    return received
                received += part
        raise TimeoutError("the server still holds the connection")
    return received


@pytest.mark.parametrize(
    ("at_once", "slowly", "status"),
    [
        (b"", b"", None),
        (b"GET /metr", b"", None),
        (b"GET /metrics HTTP/1.1\r\nX: ", b"a", None),
        (HEAD, b"", 408),
        (HEAD, b"a", 408),
        (ELSEWHERE, b"a", 404),
        (b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\nGET /metr", b"a", 200),
    ],
    ids=["silent", "half a head", "slow head", "no body", "slow body", "body of a refused request",
         "slow head of the second request"],
)  # fmt: skip
def test_a_slow_client_is_cut_off(at_once, slowly, status, start) -> None:
    running = start(head_s=0.3, timeout_s=0.3)
    with connected(running) as connection:
        answer = answer_to(connection, at_once, itertools.cycle(slowly))
    if status is None:
        assert answer == b""
    else:
        assert answer.startswith(b"HTTP/1.1 %d " % status)
    assert not running.server.server_state.connections
    assert running.embed(png(3)).status == 200


def test_an_idle_connection_is_ended(start) -> None:
    running = start(keep_alive_s=0.3)
    with connected(running) as connection:
        answer = answer_to(connection, b"GET /v2 HTTP/1.1\r\nHost: x\r\n\r\n", iter(()))
    assert answer.startswith(b"HTTP/1.1 200 ")


def test_who_keeps_to_the_times_keeps_the_connection(start) -> None:
    """Pauses between requests, slow answers and bodies have times of their own."""
    running = start(head_s=1.0)
    connection = http.client.HTTPConnection(urlsplit(running.url).netloc, timeout=60)
    connection.connect()
    held = connection.sock
    content = png(5)
    for parts in ([content], [content[:9], content[9:]], [content]):
        connection.putrequest("POST", "/embed")
        connection.putheader("Content-Length", str(len(content)))
        connection.endheaders()
        for part in parts:
            connection.send(part)
            time.sleep(1.5)
        assert connection.getresponse().read()
    assert connection.sock is held
    connection.close()
