"""The metrics of a server, for Prometheus."""

from __future__ import annotations

import math

import numpy as np
from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    PlatformCollector,
    ProcessCollector,
    generate_latest,
)

from gsp_deploy.runtime.session import SessionInfo

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
_RESIDUALS = (1e-7, 1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1)
_IMAGES = (1, 2, 4, 8, 16, 32, 64, 128)


class Metrics:
    """One server's metrics, in their own registry."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        home = self.registry
        ProcessCollector(registry=home)
        PlatformCollector(registry=home)
        self.requests = Counter(
            "gsp_requests",
            "Requests answered, by route (`gate`: refused for key or rate) and HTTP code.",
            ("route", "code"),
            registry=home,
        )
        self.request_seconds = Histogram(
            "gsp_request_seconds",
            "Seconds from a request's headers to its answer.",
            ("route",),
            buckets=_SECONDS,
            registry=home,
        )
        self.queue_seconds = Histogram(
            "gsp_queue_seconds",
            "Seconds that a request waited for its batch.",
            buckets=_SECONDS,
            registry=home,
        )
        self.decode_seconds = Histogram(
            "gsp_decode_seconds",
            "Seconds of decoding one request's files.",
            buckets=_SECONDS,
            registry=home,
        )
        self.decoders_ended = Counter(
            "gsp_decoders_ended",
            "Decoders' processes that were ended or crashed during a request.",
            registry=home,
        )
        self.inference_seconds = Histogram(
            "gsp_inference_seconds",
            "Seconds of one batch's inference.",
            buckets=_SECONDS,
            registry=home,
        )
        self.batch_images = Histogram(
            "gsp_batch_images", "Images in a batch.", buckets=_IMAGES, registry=home
        )
        self.images = Counter("gsp_images", "Images embedded.", registry=home)
        self.waiting = Gauge(
            "gsp_accepted_images", "Images accepted, not answered yet.", registry=home
        )
        self.buffered = Gauge("gsp_buffered_bytes", "Bytes of request bodies held.", registry=home)
        self.residuals = Histogram(
            "gsp_residual",
            "Mean absolute error of an image's mixing weights, where the model says it.",
            buckets=_RESIDUALS,
            registry=home,
        )
        self.badly_solved = Counter(
            "gsp_badly_solved_images",
            "Images with a residual above the server's limit, or not a number.",
            registry=home,
        )
        self.model = Gauge(
            "gsp_model",
            "The model that is served.",
            ("name", "precision", "runtime"),
            registry=home,
        )

    def describe_model(self, name: str, info: SessionInfo) -> None:
        """Set the labels that describe the served model."""
        self.model.labels(name, info.precision, f"{info.runtime} {info.device}").set(1)

    def observe_residuals(self, residuals: np.ndarray, limit: float) -> None:
        """Count a batch's residuals `(n,)`; a NaN counts as badly solved."""
        for residual in residuals.tolist():
            if not residual <= limit:
                self.badly_solved.inc()
            if math.isfinite(residual):  # NaN would spoil the histogram's sum for good
                self.residuals.observe(residual)

    def exposition(self) -> bytes:
        """Return all figures in Prometheus's text format."""
        return generate_latest(self.registry)
