"""The gate: keys and rates over real HTTP, before a body is read; health open to everybody."""

from __future__ import annotations

import hashlib
import socket
from urllib.parse import urlsplit

import pytest

from gsp_deploy.serving.keys import ApiKeys

from .servers import RunningServer, TellingSession, png, running_server

KEY, OTHER = "key-number-one-0123", "key-number-two-0123"
KEYS = ApiKeys(tuple(hashlib.sha256(key.encode()).digest() for key in (KEY, OTHER)))
HEALTH = ("/v2/health/live", "/v2/health/ready")


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
