"""The table of the server's routes: what each takes, and every code and type of its replies.

The application and `/openapi.json` are both built from this table, so they always agree.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

VERSION = "1"  # of the one model that is served
JSON = "application/json"
NPY = "application/x-npy"
BYTES = "application/octet-stream"
TEXT = "text/plain"
MULTIPART = "multipart/form-data"

# Codes for errors of a request with a body, and of a server that works on it.
_BODY_CODES = (400, 408, 413, 415, 422, 500, 503, 504)


@dataclass(frozen=True)
class Route:
    """One path and method.

    Attributes:
        method: GET or POST.
        path: as OpenAPI writes it.
        handler: the method of `EmbeddingService` that answers, without its underscore.
        summary: one line.
        content: the name of the schema of a reply with 200, by content type; empty if that reply
            has no body.
        request: the name of the schema of the request's body, by content type.
        refusals: codes of replies that report an error in one line.
        bare: codes of replies without a body, beside 200.
        is_open: answered without a key and at any rate.
    """

    method: str
    path: str
    handler: str
    summary: str
    content: Mapping[str, str] = field(default_factory=dict)
    request: Mapping[str, str] = field(default_factory=dict)
    refusals: tuple[int, ...] = ()
    bare: tuple[int, ...] = ()
    is_open: bool = False


def _model_routes(prefix: str, infix: str) -> tuple[Route, ...]:
    about = "the model" if not infix else "the model's only version"
    return (
        Route("GET", prefix, "model_metadata", f"Describe {about}.", {JSON: "ModelMetadata"},
              refusals=(404,)),
        Route("GET", f"{prefix}/ready", "model_ready", f"Say whether {about} takes requests.",
              refusals=(404,), bare=(503,)),
        Route("POST", f"{prefix}/infer", "infer", f"Run {about} on tensors.",
              {JSON: "InferReply", BYTES: "Bytes"}, {JSON: "InferRequest", BYTES: "Bytes"},
              refusals=(404, *_BODY_CODES)),
    )  # fmt: skip


ROUTES: tuple[Route, ...] = (
    Route("GET", "/v2/health/live", "live", "Say whether the server runs.", is_open=True),
    Route("GET", "/v2/health/ready", "ready", "Say whether the server takes requests.",
          bare=(503,), is_open=True),
    Route("GET", "/v2", "server_metadata", "Describe the server.", {JSON: "ServerMetadata"}),
    *_model_routes("/v2/models/{model}", ""),
    *_model_routes(f"/v2/models/{{model}}/versions/{VERSION}", "version"),
    Route("POST", "/embed", "embed", "Embed image files.", {JSON: "Embeddings", NPY: "Bytes"},
          {"image/*": "Bytes", BYTES: "Bytes", MULTIPART: "ImageForm"}, refusals=_BODY_CODES),
    Route("GET", "/metrics", "metrics", "Return the figures for Prometheus.", {TEXT: "Text"}),
    Route("GET", "/openapi.json", "openapi", "Return this document.", {JSON: "Document"}),
)  # fmt: skip
