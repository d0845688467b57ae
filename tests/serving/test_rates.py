"""A rate for each client: a bucket that fills by the clock, and not too many of them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gsp_deploy.serving import rates
from gsp_deploy.serving.rates import RateLimit, client_of


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_a_burst_then_the_rate() -> None:
    clock = Clock()
    limit = RateLimit(2.0, 3, clock)
    assert [limit.seconds_until_allowed("a") for _ in range(4)] == [0, 0, 0, 1]
    assert limit.seconds_until_allowed("b") == 0
    clock.now += 0.5
    assert [limit.seconds_until_allowed("a") for _ in range(2)] == [0, 1]
    clock.now += 1000
    assert [limit.seconds_until_allowed("a") for _ in range(4)] == [0, 0, 0, 1]


def test_the_wait_is_long_enough_and_no_longer() -> None:
    clock = Clock()
    limit = RateLimit(0.1, 1, clock)
    assert limit.seconds_until_allowed("a") == 0
    assert limit.seconds_until_allowed("a") == 10
    clock.now += 4
    wait = limit.seconds_until_allowed("a")
    assert wait == 6
    clock.now += wait
    assert limit.seconds_until_allowed("a") == 0


@given(st.lists(st.floats(0, 5), max_size=60))
def test_never_more_than_the_burst_and_the_rate_allow(pauses) -> None:
    clock = Clock()
    limit, allowed = RateLimit(1.5, 4, clock), 0
    for pause in pauses:
        clock.now += pause
        allowed += limit.seconds_until_allowed("a") == 0
    assert allowed <= 4 + 1.5 * sum(pauses) + 1e-6


def test_the_clients_seen_last_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rates, "MOST_CLIENTS", 2)
    limit = RateLimit(0.001, 1, Clock())
    assert [limit.seconds_until_allowed(client) for client in "abab"] == [0, 0, 1000, 1000]
    assert limit.seconds_until_allowed("c") == 0
    assert limit.seconds_until_allowed("b") == 1000
    assert limit.seconds_until_allowed("a") == 0


@pytest.mark.parametrize(
    ("address", "client"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("testclient", "testclient"),
    ],
)
def test_what_stands_for_a_client(address, client) -> None:
    assert client_of(address) == client
