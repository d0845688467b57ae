"""The HTTP application: routes, and the steps of every request to the model."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from functools import partial
from typing import TypeVar

from fastapi import FastAPI, Request, Response
from starlette.exceptions import HTTPException

from gsp_deploy import __version__
from gsp_deploy.errors import RequestError
from gsp_deploy.images.reduction import refuse_unaveraged
from gsp_deploy.runtime import EmbeddingSession
from gsp_deploy.serving import kserve
from gsp_deploy.serving.batching import Batcher
from gsp_deploy.serving.deadline import Work, answer_in_time
from gsp_deploy.serving.decoders import Decoders
from gsp_deploy.serving.documentation import TITLE, openapi
from gsp_deploy.serving.gate import Gate
from gsp_deploy.serving.keys import ApiKeys
from gsp_deploy.serving.limits import Admission
from gsp_deploy.serving.metrics import CONTENT_TYPE, Metrics
from gsp_deploy.serving.rates import RateLimit
from gsp_deploy.serving.replies import (
    JsonResponse,
    embeddings_reply,
    http_refusal,
    refusal,
    wants_npy,
)
from gsp_deploy.serving.routes import ROUTES
from gsp_deploy.serving.settings import ServingSettings
from gsp_deploy.serving.uploads import RAW_TYPES, images_in

T = TypeVar("T")


class EmbeddingService:
    """Serve one model over HTTP. Owns limits, batching and metrics, but not the session.

    Args:
        session: the model.
        name: the model's name in URLs.
        settings: the limits.
        keys: a request must carry one of these API keys; without any, every client is allowed.

    Raises:
        UsageError: the settings reduce JPEG files, but the model needs them whole.

    Attributes:
        app: the ASGI application, wrapped in its gate.
        admission: the work accepted now; set `is_draining` to accept nothing new.
        is_ready: the model has been warmed up.
        is_leaving: the server is about to stop: it is not ready, and each answer closes its
            connection.
    """

    def __init__(
        self,
        session: EmbeddingSession,
        name: str,
        settings: ServingSettings,
        keys: ApiKeys | None = None,
    ) -> None:
        self.name = name
        self.is_ready = self.is_leaving = False
        self.metrics = Metrics()
        self.metrics.describe_model(name, session.info)
        self.admission = Admission(settings, self.metrics)
        self._session = session
        self._settings = settings
        self._batcher = Batcher(session, settings, self.metrics, self.admission)
        if settings.reduced_jpeg and session.info.preprocessing is not None:
            refuse_unaveraged(session.info.preprocessing)
        self._decoders = Decoders(settings, session.info.preprocessing, self.metrics)
        per_second = settings.requests_per_second
        rate = None if per_second is None else RateLimit(per_second, settings.burst)
        self._keys = keys or ApiKeys()
        self.app = Gate(self._application(), self._keys, rate, self.metrics)

    def _application(self) -> FastAPI:
        # No documentation page: it would load scripts from other sites. /openapi.json stays.
        app = FastAPI(
            docs_url=None,
            redoc_url=None,
            openapi_url=None,
            redirect_slashes=False,
            lifespan=self._lifespan,
        )
        for route in ROUTES:
            app.add_api_route(
                route.path, getattr(self, f"_{route.handler}"), methods=[route.method]
            )
        app.exception_handler(HTTPException)(http_refusal)
        return app

    @asynccontextmanager
    async def _lifespan(self, _: FastAPI) -> AsyncIterator[None]:
        count = self._settings.decoders
        self._threads = ThreadPoolExecutor(count, thread_name_prefix="request")
        async with self._decoders, self._batcher:
            await asyncio.to_thread(self._session.warm_up, self._settings.max_batch)
            self.is_ready = True
            yield
            self.is_ready = False
        self._threads.shutdown(wait=False, cancel_futures=True)

    def finish(self) -> None:
        """Wait for a batch that is still running, then close the model."""
        self._batcher.finish()

    async def _openapi(self) -> Response:
        return JsonResponse(openapi(self.name, self._session.info, bool(self._keys)))

    async def _server_metadata(self) -> Response:
        return JsonResponse(kserve.server_metadata(TITLE, __version__))

    async def _live(self) -> Response:
        return Response()

    async def _ready(self) -> Response:
        # If a light image has waited for half of its time, those that come now would time out.
        keeps_up = self._decoders.longest_wait < self._settings.timeout_s / 2
        takes_work = self.is_ready and not self.is_leaving and keeps_up
        return Response(status_code=200 if takes_work else 503)

    async def _model_ready(self, model: str) -> Response:
        self._check_name(model)
        return await self._ready()

    async def _model_metadata(self, model: str) -> Response:
        self._check_name(model)
        return JsonResponse(kserve.model_metadata(self.name, self._session.info))

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
        header_length, most = request.headers.get(kserve.HEADER_LENGTH), self._settings.queue_limit
        asked = await self._in_thread(
            kserve.parse_infer, body, header_length, self._session.info, most
        )
        with self.admission.accept(max(len(asked.images), 1)):
            images = await self._in_thread(self._session.prepare, asked.images)
            found = await self._batcher.run(images, asked.output_names)
        kserve.check_finite(found, asked.output_names)
        binary = {output.name: output.binary for output in asked.outputs}
        kserve.check_reply_size(found, binary, self._settings.max_reply_bytes)
        headers, content = await self._in_thread(kserve.write_infer, asked, self.name, found)
        return Response(content, headers=headers)

    async def _embed_body(self, request: Request, body: bytes) -> Response:
        if self._session.info.preprocessing is None:
            raise RequestError(
                400,
                f"{self.name} takes no image files: it does not say how they are prepared; send "
                f"tensors to /v2/models/{self.name}/infer",
            )
        kind = request.headers.get("content-type", RAW_TYPES[0])
        with self.admission.accept(images_in(body, kind)):
            decoded = await self._decoders.decode(body, kind)
            images = await self._in_thread(self._session.prepare, decoded.images)
            found = await self._batcher.run(images, ("embedding",))
        kserve.check_finite(found, ("embedding",))
        as_npy = wants_npy(request.headers.get("accept", ""))
        limit = self._settings.max_reply_bytes
        kserve.check_reply_size(found, {"embedding": as_npy}, limit)
        return await self._in_thread(
            embeddings_reply,
            self.name,
            self._session.info,
            decoded.names,
            found,
            as_npy,
        )

    async def _in_thread(self, function: Callable[..., T], *arguments: object) -> T:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._threads, function, *arguments)

    def _check_name(self, model: str) -> None:
        if model != self.name:
            raise HTTPException(404, f"no model {model[:100]!r} here, only {self.name!r}")
