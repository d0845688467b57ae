"""Check the key and the rate of every request first, and count the running requests."""

from __future__ import annotations

import asyncio
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gsp_deploy.errors import RequestError
from gsp_deploy.serving.keys import ApiKeys
from gsp_deploy.serving.metrics import Metrics
from gsp_deploy.serving.rates import RateLimit, client_of
from gsp_deploy.serving.replies import refusal

_STOPPED = RequestError(503, "the server stopped before it could answer; ask another one", 1)
OPEN_PATHS = ("/v2/health/live", "/v2/health/ready")


class Gate:
    """Pass requests on to an application, or answer 401 or 429 without reading their bodies.

    The health endpoints need no key and have no rate limit.

    Attributes:
        under_way: requests with an unfinished answer.
        dropped: requests that the server gave up when it ended.
    """

    def __init__(
        self, app: ASGIApp, keys: ApiKeys, rate: RateLimit | None, metrics: Metrics
    ) -> None:
        self.under_way = self.dropped = 0
        self._app = app
        self._keys = keys
        self._rate = rate
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Take one connection of the ASGI protocol."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        has_started = False

        async def watched_send(message: Message) -> None:
            nonlocal has_started
            has_started = True  # an answer's first message is its status
            await send(message)

        self.under_way += 1
        try:
            await self._pass(scope, receive, watched_send)
        except asyncio.CancelledError:  # only the end of the server cancels it
            self.dropped += 1
            if not has_started:
                await refusal(_STOPPED)(scope, receive, send)
        finally:
            self.under_way -= 1

    async def _pass(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            if scope["path"] not in OPEN_PATHS:
                self._check(scope)
        except RequestError as error:
            self._metrics.requests.labels("gate", str(error.status)).inc()
            await refusal(error)(scope, receive, send)
        else:
            await self._app(scope, receive, send)

    def _check(self, scope: Scope) -> None:
        key = self._keys.who(scope["headers"]) if self._keys else None
        if self._rate is not None and (wait := self._rate.seconds_until_allowed(_who(scope, key))):
            raise RequestError(429, f"too many requests; try again in {wait} s", wait)
        if self._keys and key is None:
            raise RequestError(
                401, "expected an API key in the header Authorization: Bearer KEY, got no valid one"
            )


def _who(scope: Scope, key: int | None) -> str:
    if key is not None:
        return f"key {key}"
    client: Any = scope.get("client")
    return client_of(client[0]) if client else "unknown"
