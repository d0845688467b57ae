"""The gate, alone and over real HTTP: keys and rates before a body is read; health open to all."""

from __future__ import annotations

import asyncio
import hashlib
import json
import socket
from typing import Any
from urllib.parse import urlsplit

import pytest

from gsp_deploy.serving.gate import Gate
from gsp_deploy.serving.keys import ApiKeys
from gsp_deploy.serving.metrics import Metrics
from gsp_deploy.serving.rates import RateLimit

from .servers import RunningServer, TellingSession, png, running_server

KEY, OTHER = "key-number-one-0123", "key-number-two-0123"
KEYS = ApiKeys(tuple(hashlib.sha256(key.encode()).digest() for key in (KEY, OTHER)))
HEALTH = ("/v2/health/live", "/v2/health/ready")


START = {"type": "http.response.start", "status": 200, "headers": []}
END = {"type": "http.response.body", "body": b""}


class Application:
    """Records what passes the gate, sends some messages, and then waits."""

    def __init__(self, *messages: dict[str, Any]) -> None:
        self.messages, self.seen, self.go = messages, [], asyncio.Event()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.seen.append(scope["type"])
        for message in self.messages:
            await send(message)
        await self.go.wait()


async def passing(gate: Gate, sent: list[Any], **scope: Any) -> asyncio.Task[None]:
    """Return a request that has reached the application, or its answer."""

    async def send(message: Any) -> None:
        sent.append(message)

    whole = {"type": "http", "path": "/v2", "headers": [], "method": "GET", **scope}
    task = asyncio.create_task(gate(whole, None, send))  # type: ignore[arg-type]
    await asyncio.sleep(0)
    return task


@pytest.mark.parametrize("started", [False, True])
def test_a_request_that_the_end_of_the_server_cuts_off_is_counted(started: bool) -> None:
    """It gets an answer, unless its own has begun."""

    async def run() -> None:
        sent: list[Any] = []
        gate = Gate(Application(*[START] * started), ApiKeys(()), None, Metrics())
        task = await passing(gate, sent)
        assert (gate.under_way, gate.dropped) == (1, 0)
        task.cancel()
        await task
        assert (gate.under_way, gate.dropped) == (0, 1)
        if started:
            assert sent == [START]
            return
        assert sent[0]["status"] == 503
        assert (b"retry-after", b"1") in sent[0]["headers"]
        assert "stopped before it could answer" in json.loads(sent[1]["body"])["error"]

    asyncio.run(run())


def test_a_request_that_is_answered_is_under_way_until_then() -> None:
    async def run() -> None:
        sent: list[Any] = []
        application = Application(START, END)
        gate = Gate(application, ApiKeys(()), None, Metrics())
        tasks = [await passing(gate, sent) for _ in range(2)]
        assert gate.under_way == 2
        application.go.set()
        await asyncio.gather(*tasks)
        assert (gate.under_way, gate.dropped) == (0, 0)
        assert sent == [START, END] * 2

    asyncio.run(run())


def test_what_is_no_request_passes_without_a_key() -> None:
    async def run() -> None:
        application = Application()
        gate = Gate(application, KEYS, None, Metrics())
        task = await passing(gate, [], type="lifespan")
        assert (application.seen, gate.under_way) == (["lifespan"], 0)
        application.go.set()
        await task

    asyncio.run(run())


def test_refusals_are_counted_and_clients_without_an_address_share_one_rate() -> None:
    async def run() -> None:
        application, metrics = Application(START, END), Metrics()
        application.go.set()
        gate = Gate(application, ApiKeys(()), RateLimit(0.01, 1), metrics)
        statuses = []
        for client in (None, None, ("192.0.2.1", 9), ("192.0.2.1", 10), ("192.0.2.2", 9)):
            sent: list[Any] = []
            await (await passing(gate, sent, client=client))
            statuses.append(sent[0]["status"])
        assert statuses == [200, 429, 200, 429, 200]
        assert b'gsp_requests_total{code="429",route="gate"} 2.0' in metrics.exposition()

    asyncio.run(run())


@pytest.fixture(scope="module")
def locked():
    with running_server(TellingSession(), KEYS) as running:
        yield running


@pytest.mark.parametrize("path", ["/v2", "/v2/models/m", "/v2/models/m/ready", "/metrics",
                                  "/openapi.json", "/nowhere"])  # fmt: skip
def test_without_a_key_nothing_but_health_is_answered(locked: RunningServer, path: str) -> None:
    refused = locked.ask("GET", path)
    assert (refused.status, refused.headers["www-authenticate"]) == (401, "Bearer")
    assert "Authorization: Bearer KEY" in refused.error
    for health in HEALTH:
        assert locked.ask("GET", health).status == 200


@pytest.mark.parametrize("key", [KEY, OTHER])
def test_with_a_key_all_is_answered(locked: RunningServer, key: str) -> None:
    assert locked.embed(png(7), X_API_Key=key).status == 200
    assert locked.embed(png(7), Authorization=f"Bearer {key}").status == 200
    assert locked.embed(png(7), Authorization=f"Bearer {key}x").status == 401


def test_a_body_without_a_key_is_not_read(locked: RunningServer) -> None:
    with socket.create_connection(urlsplit(locked.url).netloc.split(":"), 30) as connection:
        connection.sendall(b"POST /embed HTTP/1.1\r\nHost: x\r\nContent-Length: 30000000\r\n\r\n")
        assert b" 401 " in connection.recv(4096).splitlines()[0]


def test_keys_are_in_the_document(locked: RunningServer) -> None:
    document = locked.ask("GET", "/openapi.json", X_API_Key=KEY).json
    assert set(document["components"]["securitySchemes"]) == {"bearer", "key"}
    assert "security" in document["paths"]["/embed"]["post"]
    assert all("security" not in document["paths"][path]["get"] for path in HEALTH)


def test_too_many_requests_are_sent_away_for_a_while(start) -> None:
    running = start(requests_per_second=0.01, burst=3)
    assert [running.ask("GET", "/v2").status for _ in range(3)] == [200, 200, 200]
    refused = running.ask("POST", "/embed", png(1))
    assert refused.status == 429
    assert 90 <= int(refused.headers["retry-after"]) <= 100
    assert running.ask("GET", "/v2/health/ready").status == 200


def test_each_key_has_a_rate_of_its_own(start) -> None:
    running = start(keys=KEYS, requests_per_second=0.01, burst=1)
    assert running.ask("GET", "/v2", X_API_Key=KEY).status == 200
    assert running.ask("GET", "/v2", X_API_Key=KEY).status == 429
    assert running.ask("GET", "/v2", X_API_Key=OTHER).status == 200
    assert running.ask("GET", "/v2").status == 401
    assert running.ask("GET", "/v2", X_API_Key="guessed").status == 429
