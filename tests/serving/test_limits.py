"""What a server takes on: places, bytes, and what Retry-After says when there are none."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from starlette.requests import Request

from gsp_deploy.errors import RequestError
from gsp_deploy.serving import ServingSettings
from gsp_deploy.serving.limits import CLIENT_GONE, LONGEST_RETRY, Admission
from gsp_deploy.serving.metrics import Metrics


@pytest.fixture
def admission() -> Admission:
    return Admission(ServingSettings(max_batch=1, queue_limit=100), Metrics())


def retry_after(admission: Admission) -> int | None:
    """Return what a request gets that does not fit."""
    with pytest.raises(RequestError) as caught, admission.accept(100):
        pass
    assert caught.value.status == 503
    return caught.value.retry_after


def test_retry_after_is_the_time_that_the_waiting_images_take(admission) -> None:
    admission.learn(10, 2.0)
    with admission.accept(20):
        assert retry_after(admission) == 4
        with admission.accept(30):
            assert retry_after(admission) == 10


def test_retry_after_learns_from_later_batches(admission) -> None:
    admission.learn(1, 1.0)
    admission.learn(2, 3.9)
    with admission.accept(10):
        assert retry_after(admission) == 12  # 10 x (0.8 x 1 + 0.2 x 1.95), rounded up
        for _ in range(100):
            admission.learn(1, 0.3)
        assert retry_after(admission) == 4  # and in the end what is measured, rounded up


def test_retry_after_is_at_least_a_second(admission) -> None:
    with admission.accept(1):
        assert retry_after(admission) == 1  # before anything was learnt
        admission.learn(1, 0.001)
        assert retry_after(admission) == 1


def test_retry_after_is_at_most_a_minute(admission) -> None:
    with admission.accept(10):
        admission.learn(1, 5.9)
        assert retry_after(admission) == 59
        admission.learn(1, 1000.0)
        assert retry_after(admission) == LONGEST_RETRY == 60


def test_places_are_given_back(admission) -> None:
    with pytest.raises(ZeroDivisionError), admission.accept(100):
        1 / 0  # noqa: B018
    with admission.accept(100):
        assert admission.images == 100
    assert admission.images == 0


MEBIBYTE = 1 << 20


@pytest.fixture
def bodies() -> Admission:
    """Takes bodies of 2 MiB, and 3 MiB of all requests together."""
    limits = {"max_body_bytes": 2 * MEBIBYTE, "max_buffered_bytes": 3 * MEBIBYTE}
    return Admission(ServingSettings(**limits), Metrics())  # type: ignore[arg-type]


def request(*chunks: bytes | None, **headers: str) -> Request:
    """Return a request that sends these chunks; None is a client that goes away."""
    messages: list[dict[str, Any]] = [
        {"type": "http.disconnect"}
        if chunk is None
        else {"type": "http.request", "body": chunk, "more_body": index + 1 < len(chunks)}
        for index, chunk in enumerate(chunks)
    ]

    async def receive() -> dict[str, Any]:
        return messages.pop(0)

    raw = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    return Request({"type": "http", "headers": raw}, receive)


def held(admission: Admission) -> int:
    """Return the held bytes that the metrics show."""
    text = admission._metrics.exposition().decode()
    (line,) = (line for line in text.splitlines() if line.startswith("gsp_buffered_bytes "))
    return int(float(line.split()[1]))


def body(admission: Admission, *chunks: bytes | None, **headers: str) -> bytes:
    """Read a body alone, and check that nothing is held afterwards."""

    async def read() -> bytes:
        async with admission.body(request(*chunks, **headers)) as whole:
            assert held(admission) == len(whole)
            return whole

    try:
        return asyncio.run(read())
    finally:
        assert held(admission) == 0


def status_of(admission: Admission, *chunks: bytes | None, **headers: str) -> int:
    with pytest.raises(RequestError) as caught:
        body(admission, *chunks, **headers)
    return caught.value.status


def test_a_body_is_read_up_to_its_limit_and_given_back(bodies: Admission) -> None:
    full = bytes(2 * MEBIBYTE)
    for _ in range(3):  # what is not given back would fill the server
        assert body(bodies, full[:9], full[9:]) == full
    assert status_of(bodies, full, b"x") == 413
    assert status_of(bodies, full, b"more", b"and more") == 413
    assert body(bodies, b"abc") == b"abc"


def test_bodies_of_all_requests_together_have_a_limit(bodies: Admission) -> None:
    async def both() -> None:
        async with bodies.body(request(bytes(2 * MEBIBYTE))):
            async with bodies.body(request(bytes(MEBIBYTE))):
                assert held(bodies) == 3 * MEBIBYTE
            with pytest.raises(RequestError, match="too many bytes") as caught:
                async with bodies.body(request(bytes(MEBIBYTE + 1))):
                    pass
            assert caught.value.status == 503
            assert held(bodies) == 2 * MEBIBYTE

    asyncio.run(both())


def test_what_the_headers_announce_is_checked_before_the_body(bodies: Admission) -> None:
    for compressed in ("gzip", "zstd", "br"):
        assert status_of(bodies, b"abc", content_encoding=compressed) == 415
    assert body(bodies, b"abc", content_encoding="identity") == b"abc"
    assert body(bodies, b"abc", content_length="3") == b"abc"
    for length in (str(2 * MEBIBYTE + 1), "-1", "many"):
        assert status_of(bodies, b"abc", content_length=length) == 413


def test_a_client_that_goes_away_is_counted_as_such(bodies: Admission) -> None:
    assert status_of(bodies, b"abc", None) == CLIENT_GONE == 499


def test_a_server_that_is_stopping_takes_nothing(bodies: Admission) -> None:
    bodies.is_draining = True
    assert status_of(bodies, b"abc") == 503
    with pytest.raises(RequestError, match="stopping") as caught, bodies.accept(1):
        pass
    assert (caught.value.status, caught.value.retry_after) == (503, 1)


def test_a_request_that_never_fits_is_not_sent_back_for_later(admission: Admission) -> None:
    refused = pytest.raises(RequestError, match="at most 100 images in a request")
    with refused as caught, admission.accept(101):
        pass
    assert (caught.value.status, caught.value.retry_after) == (413, None)
