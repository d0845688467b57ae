"""The HTTP application: routes, and what every request to the model goes through."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, TypeVar

import numpy as np
from fastapi import FastAPI, Request, Response
from starlette.exceptions import HTTPException

from gsp_deploy import __version__
from gsp_deploy.config import PreprocessingSpec
from gsp_deploy.errors import RequestError
from gsp_deploy.runtime import EmbeddingSession
from gsp_deploy.serving import kserve
from gsp_deploy.serving.batching import Batcher
from gsp_deploy.serving.deadline import Work, answer_in_time
from gsp_deploy.serving.limits import Admission
from gsp_deploy.serving.metrics import CONTENT_TYPE, Metrics
from gsp_deploy.serving.replies import embeddings_reply, http_refusal, refusal
from gsp_deploy.serving.settings import ServingSettings
from gsp_deploy.serving.uploads import Upload, decode_uploads, uploads_in

SERVER_NAME = "gsp-deploy"

T = TypeVar("T")


class EmbeddingService:
    """One model behind HTTP: owns the limits, the batching and the figures, not the session.

    Attributes:
        app: the ASGI application.
        admission: what is accepted now; set `is_draining` to take nothing new.
        is_ready: the model has been warmed up.
        is_leaving: the server is about to stop: no longer ready, and each answer closes its
            connection.
    """

    def __init__(self, session: EmbeddingSession, name: str, settings: ServingSettings) -> None:
        self.name = name
        self.is_ready = self.is_leaving = False
        self.metrics = Metrics()
        self.metrics.describe_model(name, session.info)
        self.admission = Admission(settings, self.metrics)
        self._session = session
        self._settings = settings
        self._batcher = Batcher(session, settings, self.metrics, self.admission)
        self._decoders = ThreadPoolExecutor(settings.decoders, thread_name_prefix="decode")
        self.app = self._application()

    def _application(self) -> FastAPI:
        # No page of documentation: it would load scripts from elsewhere. /openapi.json stays.
        app = FastAPI(
            title=SERVER_NAME,
            version=__version__,
            docs_url=None,
            redoc_url=None,
            lifespan=self._lifespan,
        )
        app.get("/v2")(self._server_metadata)
        app.get("/v2/health/live")(self._live)
        app.get("/v2/health/ready")(self._ready)
        for model in ("/v2/models/{model}", f"/v2/models/{{model}}/versions/{kserve.VERSION}"):
            app.get(model)(self._model_metadata)
            app.get(f"{model}/ready")(self._model_ready)
            app.post(f"{model}/infer")(self._infer)
        app.post("/embed")(self._embed)
        app.get("/metrics")(self._metrics)
        app.exception_handler(HTTPException)(http_refusal)
        return app

    @asynccontextmanager
    async def _lifespan(self, _: FastAPI) -> AsyncIterator[None]:
        async with self._batcher:
            await asyncio.to_thread(self._warm_up)
            self.is_ready = True
            yield
            self.is_ready = False
        self._decoders.shutdown(wait=False, cancel_futures=True)

    def _warm_up(self) -> None:
        """Run the smallest and the largest batch, so that the first client does not wait."""
        tensor = self._session.info.input
        sizes = [size for size in tensor.shape[1:] if isinstance(size, int)]
        if len(sizes) < len(tensor.shape) - 1:
            return
        dtype = np.uint8 if tensor.dtype == "uint8" else np.float32
        for batch in (1, self._settings.max_batch):
            self._session.run(np.zeros((batch, *sizes), dtype))

    async def _server_metadata(self) -> dict[str, Any]:
        return kserve.server_metadata(SERVER_NAME, __version__)

    async def _live(self) -> Response:
        return Response()

    async def _ready(self) -> Response:
        takes_work = self.is_ready and not self.is_leaving
        return Response(status_code=200 if takes_work else 503)

    async def _model_ready(self, model: str) -> Response:
        self._check_name(model)
        return await self._ready()

    async def _model_metadata(self, model: str) -> dict[str, Any]:
        self._check_name(model)
        return kserve.model_metadata(self.name, self._session.info)

    async def _metrics(self) -> Response:
        return Response(self.metrics.exposition(), media_type=CONTENT_TYPE)

    async def _infer(self, model: str, request: Request) -> Response:
        self._check_name(model)
        return await self._answer("infer", request, partial(self._infer_body, request))

    async def _embed(self, request: Request) -> Response:
        return await self._answer("embed", request, partial(self._embed_body, request))

    async def _answer(self, route: str, request: Request, work: Work) -> Response:
        started = time.monotonic()
        body, seconds = self.admission.body(request), self._settings.timeout_s
        try:
            response = await answer_in_time(request, body, work, seconds)
        except Exception as error:
            response = refusal(error)
        if self.is_leaving:
            response.headers["Connection"] = "close"
        self.metrics.requests.labels(route, str(response.status_code)).inc()
        self.metrics.request_seconds.labels(route).observe(time.monotonic() - started)
        return response

    async def _infer_body(self, request: Request, body: bytes) -> Response:
        info, header_length = self._session.info, request.headers.get(kserve.HEADER_LENGTH)
        asked = await self._in_thread(kserve.parse_infer, body, header_length, info)
        with self.admission.accept(max(len(asked.images), 1)):
            images = await self._in_thread(self._session.prepare, asked.images)
            found = await self._batcher.run(images, asked.output_names)
        headers, content = await self._in_thread(kserve.write_infer, asked, self.name, found)
        return Response(content, headers=headers)

    async def _embed_body(self, request: Request, body: bytes) -> Response:
        spec, limits = self._session.info.preprocessing, self._settings
        if spec is None:
            raise RequestError(
                400,
                f"{self.name} takes no image files: it does not say how they are prepared; send "
                f"tensors to /v2/models/{self.name}/infer",
            )
        uploads = await uploads_in(body, request.headers, limits.queue_limit, limits.max_body_bytes)
        with self.admission.accept(len(uploads)):
            images = await self._in_thread(self._pixels, uploads, spec)
            found = await self._batcher.run(images, ("embedding",))
        accept = request.headers.get("accept", "")
        return await self._in_thread(
            embeddings_reply, self.name, self._session.info, uploads, found, accept
        )

    def _pixels(self, uploads: list[Upload], spec: PreprocessingSpec) -> np.ndarray:
        return self._session.prepare(decode_uploads(uploads, spec, self._settings.max_pixels))

    async def _in_thread(self, function: Callable[..., T], *arguments: Any) -> T:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._decoders, function, *arguments)

    def _check_name(self, model: str) -> None:
        if model != self.name:
            raise HTTPException(404, f"no model {model[:100]!r} here, only {self.name!r}")
