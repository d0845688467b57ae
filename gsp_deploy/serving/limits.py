"""Limit the work that a server accepts at once, and read request bodies within the limit."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

from starlette.requests import ClientDisconnect, Request

from gsp_deploy.errors import RequestError, brief
from gsp_deploy.serving.bounds import whole_number
from gsp_deploy.serving.metrics import Metrics
from gsp_deploy.serving.settings import ServingSettings

LONGEST_RETRY = 60
CLIENT_GONE = 499  # nginx's code for a closed connection: nobody reads it, but the metrics count it


class Admission:
    """Count accepted images and held bytes, and refuse requests beyond the limits.

    Belongs to one event loop; nothing here is called from another thread.

    Attributes:
        images: images accepted and not answered yet.
        is_draining: the server is stopping and takes nothing new.
    """

    def __init__(self, settings: ServingSettings, metrics: Metrics) -> None:
        self.images = 0
        self.is_draining = False
        self._settings = settings
        self._metrics = metrics
        self._bytes = 0
        self._seconds_per_image = 0.0

    def learn(self, images: int, seconds: float) -> None:
        """Record how long a batch took, to compute Retry-After."""
        latest = seconds / images
        known = self._seconds_per_image
        self._seconds_per_image = latest if known == 0 else 0.8 * known + 0.2 * latest

    @contextmanager
    def accept(self, images: int) -> Iterator[None]:
        """Hold places for a request's images while the block runs.

        Raises:
            RequestError: 413 when they never fit, 503 when they do not fit now.
        """
        limit = self._settings.queue_limit
        if images > limit:
            raise RequestError(
                413, f"expected at most {limit} images in a request, got {images}; send fewer"
            )
        self._refuse_while_draining()
        if self.images + images > limit:
            raise self._overloaded(f"{self.images} images are waiting, the limit is {limit}")
        self.images += images
        self._metrics.waiting.set(self.images)
        try:
            yield
        finally:
            self.images -= images
            self._metrics.waiting.set(self.images)

    @asynccontextmanager
    async def body(self, request: Request) -> AsyncIterator[bytes]:
        """Yield a request's body, and count its size until the block ends.

        Raises:
            RequestError: 413 when it is too long, 503 when too much is held already, 415 when it
                is compressed: a few bytes could expand to gigabytes.
        """
        self._refuse_while_draining()
        self._check_headers(request)
        chunks, held = [], 0
        try:
            async for chunk in request.stream():
                held += len(chunk)
                self._hold(len(chunk))
                if held > self._settings.max_body_bytes:
                    raise self._too_long(f"more than {self._settings.max_body_bytes:,}")
                if self._bytes > self._settings.max_buffered_bytes:
                    raise self._overloaded("too many bytes of other requests are held")
                chunks.append(chunk)
            whole = b"".join(chunks)
            chunks.clear()
            yield whole
        except ClientDisconnect as error:
            raise RequestError(CLIENT_GONE, "the client went away") from error
        finally:
            self._hold(-held)

    def _check_headers(self, request: Request) -> None:
        encoding = request.headers.get("content-encoding", "identity")
        if encoding != "identity":
            raise RequestError(
                415,
                f"expected a body that is not compressed, got Content-Encoding {brief(encoding)}",
            )
        announced = request.headers.get("content-length", "0")
        if whole_number(announced, self._settings.max_body_bytes) is None:
            raise self._too_long(brief(announced))

    def _hold(self, size: int) -> None:
        self._bytes += size
        self._metrics.buffered.set(self._bytes)

    def _refuse_while_draining(self) -> None:
        if self.is_draining:
            raise RequestError(503, "the server is stopping; ask another one", 1)

    def _too_long(self, got: str) -> RequestError:
        limit = self._settings.max_body_bytes
        return RequestError(
            413, f"expected a body of at most {limit:,} bytes, got {got}; send fewer images"
        )

    def _overloaded(self, why: str) -> RequestError:
        seconds = math.ceil(self.images * self._seconds_per_image)
        return RequestError(
            503, f"the server is busy: {why}; try again later", min(max(seconds, 1), LONGEST_RETRY)
        )
