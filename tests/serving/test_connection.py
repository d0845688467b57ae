"""Connections of clients that are slow, silent or idle: cut in the end, and no other ones."""

from __future__ import annotations

import contextlib
import http.client
import itertools
import json
import logging
import socket
import time
from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest

from gsp_deploy.errors import UsageError
from gsp_deploy.serving import descriptors
from gsp_deploy.serving.descriptors import most_connections
from gsp_deploy.serving.log_rate import OncePerSecond, one_line_a_second

from .servers import RunningServer, png
from .test_app import infer_document, wait_until

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
    wait_until(lambda: running.embed(png(3)).status == 200)  # a busy machine may need a few


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


@contextlib.contextmanager
def never_reading(running: RunningServer, request: bytes, times: int) -> Iterator[socket.socket]:
    """Yield a connection on which requests are sent and no answer is read."""
    address = urlsplit(running.url)
    with socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
        connection.connect((address.hostname, address.port))
        connection.settimeout(0.2)
        with contextlib.suppress(OSError):  # the server stops reading once it waits for us
            for _ in range(times):
                connection.sendall(request)
        yield connection


def test_a_client_that_never_reads_is_cut_off(start) -> None:
    running = start(write_s=0.3, keep_alive_s=60.0)
    ask = b"GET /openapi.json HTTP/1.1\r\nHost: x\r\n\r\n"
    with never_reading(running, ask, 3000):
        end = time.monotonic() + 60
        while running.server.server_state.connections:
            assert time.monotonic() < end, "the server still holds the connection"
            time.sleep(PAUSE)
    assert running.embed(png(3)).status == 200


def test_a_long_answer_gives_its_client_more_time(start, monkeypatch) -> None:
    monkeypatch.setattr("gsp_deploy.serving.server.SEND_BUFFER", 4096)
    monkeypatch.setattr("gsp_deploy.serving.connection.SLOWEST_READ", 1000)
    running = start(write_s=0.05)
    asked = json.dumps({**infer_document(1), "id": "x" * 60_000}).encode()
    ask = b"POST /v2/models/m/infer HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(asked)
    received = b""
    with socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
        connection.connect((urlsplit(running.url).hostname, urlsplit(running.url).port))
        connection.sendall(ask + asked)
        while not received.endswith(b"}]}"):
            part = connection.recv(256)
            assert part, "the server has cut the connection"
            received += part
            time.sleep(0.002)
    assert received.startswith(b"HTTP/1.1 200 ")


def test_connections_beyond_the_limit_get_503_and_one_line_in_the_log(start, caplog) -> None:
    with one_line_a_second():
        running = start(max_connections=3)
        with contextlib.ExitStack() as stack:
            for _ in range(3):
                stack.enter_context(connected(running))
            while len(running.server.server_state.connections) < 3:
                time.sleep(PAUSE)
            for _ in range(5):
                with connected(running) as connection:
                    head, _, body = connection.recv(4096).partition(b"\r\n\r\n")
                    assert head.startswith(b"HTTP/1.1 503 ")
                    assert b"Retry-After: 1" in head
                    assert "too many connections" in json.loads(body)["error"]
        while running.server.server_state.connections:
            time.sleep(PAUSE)
        assert running.embed(png(3)).status == 200
    lines = [r for r in caplog.records if "connections are refused" in r.getMessage()]
    assert 1 <= len(lines) <= 2


def test_connections_stay_below_the_processs_limit(monkeypatch) -> None:
    import resource

    limits = {"soft": 100}
    monkeypatch.setattr(resource, "getrlimit", lambda _: (limits["soft"], 500))
    monkeypatch.setattr(resource, "setrlimit", lambda _, new: limits.update(soft=new[0]))
    monkeypatch.setattr(descriptors.os, "listdir", lambda _: [0] * 36)
    assert most_connections(50) == 50
    assert limits["soft"] == 50 + 36 + descriptors.RESERVE
    assert most_connections(5000) == 400
    assert limits["soft"] == 500
    monkeypatch.setattr(resource, "getrlimit", lambda _: (100, 100))
    with pytest.raises(UsageError, match="at least 101 file descriptors, the limit is 100"):
        most_connections(1)


def test_a_message_is_written_once_a_second(caplog) -> None:
    now = [0.0]
    limit = OncePerSecond(lambda: now[0])
    log = logging.getLogger("gsp_deploy.serving.once")
    log.addFilter(limit)
    for second in (0.0, 0.1, 0.9, 1.0, 1.5, 9.0):
        now[0] = second
        log.warning("%s is too much", second)
        log.warning("another")
    told = [r.getMessage() for r in caplog.records if r.name == log.name]
    assert told == [
        "0.0 is too much",
        "another",
        "1.0 is too much (2 more like this)",
        "another (2 more like this)",
        "9.0 is too much (1 more like this)",
        "another (1 more like this)",
    ]
