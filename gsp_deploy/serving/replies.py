"""Write replies: embeddings as JSON or .npy, and errors as one line with an HTTP code."""

from __future__ import annotations

import io
import json
import logging
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from fastapi import Request, Response
from starlette.exceptions import HTTPException

from gsp_deploy.errors import DataError, GspDeployError, RequestError, UsageError
from gsp_deploy.runtime.session import SessionInfo
from gsp_deploy.serving.json_numbers import json_from_array
from gsp_deploy.serving.routes import JSON, NPY

log = logging.getLogger("gsp_deploy.serving")


class JsonResponse(Response):
    """JSON in ASCII, which can hold any text; NaN or infinity in it is a bug and raises."""

    media_type = JSON

    def render(self, content: Any) -> bytes:
        """Return the JSON."""
        return json.dumps(content, allow_nan=False).encode()


def wants_npy(accept: str) -> bool:
    """Return whether a request's Accept header asks for .npy."""
    return NPY in accept.lower()


def embeddings_reply(
    model: str,
    info: SessionInfo,
    names: Sequence[str],
    found: Mapping[str, np.ndarray],
    as_npy: bool,
) -> Response:
    """Return finite embeddings `(n, D)` in the files' order, as JSON or as .npy.

    JSON has each image's residual too, if the model returns it; null is not a number.
    """
    embeddings = found["embedding"]
    if as_npy:
        stream = io.BytesIO()
        np.save(stream, embeddings, allow_pickle=False)
        return Response(stream.getvalue(), media_type=NPY)
    residuals = found["residual"].tolist() if "residual" in found else [None] * len(names)
    items = b",".join(
        _item(name, vector, {"residual": residual} if "residual" in found else {})
        for name, vector, residual in zip(names, embeddings, residuals, strict=True)
    )
    about = {"model": model, "precision": info.precision, "embedding_dim": info.embedding_dim}
    head = json.dumps(about, allow_nan=False).encode()
    return Response(head[:-1] + b',"embeddings":[' + items + b"]}", media_type=JSON)


def _item(name: str, vector: np.ndarray, more: Mapping[str, float]) -> bytes:
    finite = {key: value if math.isfinite(value) else None for key, value in more.items()}
    about = json.dumps({"file": name, **finite}, allow_nan=False).encode()
    return about[:-1] + b',"embedding":' + json_from_array(vector) + b"}"


def refusal(error: Exception) -> Response:
    """Return a failure as `{"error": "one line"}`.

    The code is 4xx if the request is at fault, and 5xx if the server is. An unexpected error goes
    to the log in full, and to the client without details.
    """
    if isinstance(error, RequestError):
        return _line(error.status, str(error), _headers(error))
    if isinstance(error, (UsageError, DataError)):
        return _line(400, str(error))
    if isinstance(error, GspDeployError):
        log.error("%s", error)
        return _line(500, str(error))
    log.error("a request failed", exc_info=error)
    return _line(500, "the server failed; its log says why")


async def http_refusal(_: Request, error: Exception) -> Response:
    """Return an error of the router (no such path, wrong method) in the same form."""
    if not isinstance(error, HTTPException):
        return refusal(error)
    return _line(error.status_code, str(error.detail), dict(error.headers or {}))


def _headers(error: RequestError) -> dict[str, str]:
    headers = {} if error.retry_after is None else {"Retry-After": str(error.retry_after)}
    return headers | ({"WWW-Authenticate": "Bearer"} if error.status == 401 else {})


def _line(status: int, message: str, headers: Mapping[str, str] | None = None) -> Response:
    return JsonResponse({"error": " ".join(message.split())}, status, headers)
