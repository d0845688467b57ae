"""Limit how many requests one client may send, with a token bucket per client."""

from __future__ import annotations

import ipaddress
import math
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

MOST_CLIENTS = 10_000


@dataclass
class _Bucket:
    tokens: float
    filled: float


class RateLimit:
    """Allow each client `per_second` requests, and `burst` at once after a pause.

    The clients seen last are remembered, `MOST_CLIENTS` of them. Belongs to one event loop.
    """

    def __init__(
        self, per_second: float, burst: int, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._per_second = per_second
        self._burst = burst
        self._clock = clock
        self._buckets: OrderedDict[str, _Bucket] = OrderedDict()

    def seconds_until_allowed(self, client: str) -> int:
        """Take one request into account; return 0 if it is allowed, or whole seconds to wait."""
        now = self._clock()
        bucket = self._buckets.pop(client, None) or _Bucket(float(self._burst), now)
        self._buckets[client] = bucket
        if len(self._buckets) > MOST_CLIENTS:
            self._buckets.popitem(last=False)
        gained = (now - bucket.filled) * self._per_second
        bucket.tokens, bucket.filled = min(bucket.tokens + gained, self._burst), now
        if bucket.tokens >= 1:
            bucket.tokens -= 1
            return 0
        return max(math.ceil((1 - bucket.tokens) / self._per_second), 1)


def client_of(address: str) -> str:
    """Return the key of a client: its IPv4 address, or the /64 network of its IPv6 address."""
    try:
        parsed = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if parsed.version == 4:
        return str(parsed)
    if parsed.ipv4_mapped is not None:
        return str(parsed.ipv4_mapped)
    return str(ipaddress.ip_network((parsed, 64), strict=False))
