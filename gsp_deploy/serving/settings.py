"""The settings of a server: batching, limits and HTTPS."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

from gsp_deploy.errors import UsageError
from gsp_deploy.serving.decoding import DecodingLimits

MIB = 1 << 20
_AT_LEAST_ONE = ("max_batch", "queue_limit", "max_body_bytes", "max_reply_bytes", "max_pixels",
                 "max_request_pixels", "light_pixels", "decoders", "max_connections",
                 "burst")  # fmt: skip
_ABOVE_ZERO = ("timeout_s", "decode_s", "head_s", "write_s", "keep_alive_s", "residual_alert")
_ZERO_OR_MORE = ("window_ms", "linger_s", "drain_s")


@dataclass(frozen=True)
class TlsFiles:
    """The certificate (with its chain) and the private key of a server, as PEM files."""

    certificate: Path
    key: Path


@dataclass(frozen=True)
class ServingSettings:
    """Limits of a server; each one bounds time or memory.

    Args:
        max_batch: most images in one batch.
        window_ms: how long the oldest image waits for others to join its batch; while another
            batch runs, they join in any case.
        queue_limit: images that are accepted and not answered yet; more get 503.
        timeout_s: seconds from a request's head to its answer, with the arrival of its body.
        decode_s: seconds that decoding a request's files may take; then its process is ended.
        head_s: seconds that a client has for a request's head.
        write_s: seconds that a client may leave an answer unread; a long one gives it more.
        keep_alive_s: seconds that a connection may be idle between two requests.
        linger_s: seconds that a server goes on serving after SIGTERM, while it says that it is
            not ready.
        drain_s: seconds to answer accepted requests once the server accepts nothing new.
        max_body_bytes: size of one request's body.
        max_buffered_bytes: size of all bodies held at once; more get 503.
        max_reply_bytes: size of one reply, before any of it is written.
        max_pixels: pixels of one image, by its header, before it is decoded.
        max_request_pixels: pixels of all images of a request, by their headers.
        light_pixels: most pixels of a light request, which does not wait for heavy ones.
        decoders: processes that decode images, and threads that read requests.
        max_connections: connections open at once, if the process's own limit allows so many.
        requests_per_second: requests of one client; None sets no limit.
        burst: requests that one client may send at once after a pause, if there is such a limit.
        tls: the files for HTTPS; None serves HTTP.
        residual_alert: residual (mean absolute error of an image's weights) above which an image
            counts as badly solved, if the model has the output `residual`.
        reduced_jpeg: decode large JPEG files at a fraction of their size; see `load_image`.

    Raises:
        UsageError: a value is outside its domain.
    """

    max_batch: int = 32
    window_ms: float = 2.0
    queue_limit: int = 256
    timeout_s: float = 30.0
    decode_s: float = 10.0
    head_s: float = 10.0
    write_s: float = 10.0
    keep_alive_s: float = 75.0
    linger_s: float = 1.0
    drain_s: float = 30.0
    max_body_bytes: int = 32 * MIB
    max_buffered_bytes: int = 512 * MIB
    max_reply_bytes: int = 64 * MIB
    max_pixels: int = 40_000_000
    max_request_pixels: int = 160_000_000
    light_pixels: int = 16_000_000
    decoders: int = 2
    max_connections: int = 2048
    requests_per_second: float | None = None
    burst: int = 20
    tls: TlsFiles | None = None
    residual_alert: float = 1e-3
    reduced_jpeg: bool = False

    def __post_init__(self) -> None:
        for name in _AT_LEAST_ONE:
            if getattr(self, name) < 1:
                raise UsageError(f"{name} must be at least 1, got {getattr(self, name)}")
        for name in _ZERO_OR_MORE:
            if not 0 <= getattr(self, name) < math.inf:
                raise UsageError(f"{name} must be 0 or more, got {getattr(self, name)}")
        for name in _ABOVE_ZERO:
            if not 0 < getattr(self, name) < math.inf:
                raise UsageError(f"{name} must be above 0, got {getattr(self, name)}")
        rate = self.requests_per_second
        if rate is not None and not 0 < rate < math.inf:
            raise UsageError(f"requests_per_second must be above 0, got {rate}")
        if self.max_buffered_bytes < self.max_body_bytes:
            raise UsageError(
                f"max_buffered_bytes must hold at least one body of {self.max_body_bytes:,} bytes, "
                f"got {self.max_buffered_bytes:,}"
            )
        if self.queue_limit < self.max_batch:
            raise UsageError(
                f"queue_limit must hold at least one batch of {self.max_batch}, "
                f"got {self.queue_limit}"
            )
        if self.max_request_pixels < self.max_pixels:
            raise UsageError(
                f"max_request_pixels must hold at least one image of {self.max_pixels:,} pixels, "
                f"got {self.max_request_pixels:,}"
            )

    @property
    def decoding_limits(self) -> DecodingLimits:
        """Limits of one request in a decoder."""
        return DecodingLimits(
            self.queue_limit,
            self.max_pixels,
            self.max_request_pixels,
            self.light_pixels,
            self.reduced_jpeg,
        )
