"""What a server replies: embeddings as JSON or .npy, and refusals in one line with a code."""

from __future__ import annotations

import io
import logging
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from fastapi import Request, Response
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from gsp_deploy.errors import DataError, GspDeployError, RequestError, UsageError
from gsp_deploy.runtime.session import SessionInfo
from gsp_deploy.serving.uploads import Upload

NPY = "application/x-npy"

log = logging.getLogger(__name__)


def embeddings_reply(
    model: str,
    info: SessionInfo,
    uploads: Sequence[Upload],
    found: Mapping[str, np.ndarray],
    accept: str,
) -> Response:
    """Return embeddings `(n, D)` in the files' order, as JSON or, where asked for, as .npy.

    JSON has each image's residual too, where the model returns it; null is not a number.
    """
    embeddings = found["embedding"]
    if NPY in accept:
        stream = io.BytesIO()
        np.save(stream, embeddings, allow_pickle=False)
        return Response(stream.getvalue(), media_type=NPY)
    items: list[dict[str, Any]] = [
        {"file": upload.name, "embedding": vector}
        for upload, vector in zip(uploads, embeddings.tolist(), strict=True)
    ]
    if "residual" in found:
        for item, residual in zip(items, found["residual"].tolist(), strict=True):
            item["residual"] = residual if math.isfinite(residual) else None
    return JSONResponse(
        {
            "model": model,
            "precision": info.precision,
            "embedding_dim": info.embedding_dim,
            "embeddings": items,
        }
    )


def refusal(error: Exception) -> Response:
    """Return a failure as `{"error": "one line"}`.

    400 and others of that hundred where the request is at fault, 5xx where the server is. What
    is no error of ours goes to the log in full and to the client without details.
    """
    if isinstance(error, RequestError):
        later = {} if error.retry_after is None else {"Retry-After": str(error.retry_after)}
        return _line(error.status, str(error), later)
    if isinstance(error, (UsageError, DataError)):
        return _line(400, str(error))
    if isinstance(error, GspDeployError):
        log.error("%s", error)
        return _line(500, str(error))
    log.error("a request failed", exc_info=error)
    return _line(500, "the server failed; its log says why")


async def http_refusal(_: Request, error: Exception) -> Response:
    """Return what the router refuses (no such path, wrong method) in the same form."""
    if not isinstance(error, HTTPException):
        return refusal(error)
    return _line(error.status_code, str(error.detail), dict(error.headers or {}))


def _line(status: int, message: str, headers: dict[str, str] | None = None) -> Response:
    return JSONResponse({"error": " ".join(message.split())}, status, headers)
