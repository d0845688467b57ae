"""What a server allows itself and its clients."""

from __future__ import annotations

import math
from dataclasses import dataclass

from gsp_deploy.errors import UsageError

MIB = 1 << 20


@dataclass(frozen=True)
class ServingSettings:
    """Limits of a server; every one of them is there to bound time or memory.

    Args:
        max_batch: images that go through the network at once.
        window_ms: how long the oldest waiting image lets others join its batch; while the
            network is busy they join anyway.
        queue_limit: images that are accepted and not answered yet; more get 503.
        timeout_s: seconds from a request's head to its answer, its body's arrival among them.
        head_s: seconds that a client has for a request's head.
        keep_alive_s: seconds that a connection may lie idle between two requests.
        linger_s: seconds that a server goes on serving after SIGTERM, while it says that it is
            not ready.
        drain_s: seconds that accepted requests have left when the server takes nothing new.
        max_body_bytes: size of one request's body.
        max_buffered_bytes: size of all bodies held at once; more get 503.
        max_pixels: pixels of one image, by its header, before anything of it is decoded.
        decoders: threads that decode images and parse requests.
        residual_alert: residual (mean absolute error of an image's weights) above which an image
            counts as badly solved, where the model has the output `residual`.

    Raises:
        UsageError: a value is outside its domain.
    """

    max_batch: int = 32
    window_ms: float = 2.0
    queue_limit: int = 256
    timeout_s: float = 30.0
    head_s: float = 10.0
    keep_alive_s: float = 75.0
    linger_s: float = 1.0
    drain_s: float = 30.0
    max_body_bytes: int = 32 * MIB
    max_buffered_bytes: int = 512 * MIB
    max_pixels: int = 40_000_000
    decoders: int = 2
    residual_alert: float = 1e-3

    def __post_init__(self) -> None:
        for name in ("max_batch", "queue_limit", "max_body_bytes", "max_pixels", "decoders"):
            if getattr(self, name) < 1:
                raise UsageError(f"{name} must be at least 1, got {getattr(self, name)}")
        for name in ("window_ms", "linger_s", "drain_s"):
            if not 0 <= getattr(self, name) < math.inf:
                raise UsageError(f"{name} must be 0 or more, got {getattr(self, name)}")
        for name in ("timeout_s", "head_s", "keep_alive_s", "residual_alert"):
            if not 0 < getattr(self, name) < math.inf:
                raise UsageError(f"{name} must be above 0, got {getattr(self, name)}")
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
