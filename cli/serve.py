"""`gsp-deploy serve`: a model over HTTP, for a machine without Triton Inference Server."""

from __future__ import annotations

import os
import re
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gsp_deploy_cli.options.access import AccessOptions
from gsp_deploy_cli.options.common import Json, ReducedJpeg
from gsp_deploy_cli.options.groups import panel
from gsp_deploy_cli.options.inputs import existing_path
from gsp_deploy_cli.options.runtime import RuntimeOptions
from gsp_deploy_cli.tables import show

if TYPE_CHECKING:
    from gsp_deploy.runtime import EmbeddingSession
    from gsp_deploy.serving import ServingSettings

limit_option = panel("Limits")


@dataclass(frozen=True)
class ServingLimits:
    """Limits of a server's time and memory."""

    queue_limit: Annotated[
        int, limit_option(help="Images that may wait for an answer; more get 503.")
    ] = 256
    timeout: Annotated[
        float,
        limit_option(help="Seconds from the head of a request to its answer."),
    ] = 30.0
    head_seconds: Annotated[
        float, limit_option(help="Time that a client has to send the head of a request.")
    ] = 10.0
    keep_alive_seconds: Annotated[
        float, limit_option(help="Time that a connection may be idle between requests.")
    ] = 75.0
    linger_seconds: Annotated[
        float,
        limit_option(help="Time to go on serving after SIGTERM, already reported as not ready."),
    ] = 1.0
    drain_seconds: Annotated[
        float, limit_option(help="Time after that to answer the requests that were accepted.")
    ] = 30.0
    max_body_mib: Annotated[int, limit_option(min=1, help="Largest request body.")] = 32
    max_megapixels: Annotated[float, limit_option(min=0.01, help="Largest image.")] = 40.0
    max_request_megapixels: Annotated[
        float, limit_option(min=0.01, help="Pixels of all images of a request.")
    ] = 160.0
    decode_seconds: Annotated[
        float, limit_option(help="Time to decode all images of a request.")
    ] = 10.0
    decoders: Annotated[int, limit_option(help="Processes that decode images.")] = 2
    write_seconds: Annotated[
        float, limit_option(help="Time that a client may leave an answer unread.")
    ] = 10.0
    max_reply_mib: Annotated[int, limit_option(min=1, help="Largest reply.")] = 64
    max_connections: Annotated[int, limit_option(help="Open connections; one more gets 503.")] = (
        2048
    )

    residual_alert: Annotated[
        float,
        limit_option(help="An image with a larger residual counts as badly solved in /metrics."),
    ] = 1e-3

    def settings(self, max_batch: int, window_ms: float, access: AccessOptions) -> ServingSettings:
        """Return the server's settings, in its own units."""
        from gsp_deploy.serving import ServingSettings
        from gsp_deploy.serving.settings import MIB

        body = self.max_body_mib * MIB
        return ServingSettings(
            max_batch=max_batch,
            window_ms=window_ms,
            queue_limit=self.queue_limit,
            timeout_s=self.timeout,
            head_s=self.head_seconds,
            keep_alive_s=self.keep_alive_seconds,
            linger_s=self.linger_seconds,
            drain_s=self.drain_seconds,
            max_body_bytes=body,
            max_buffered_bytes=max(ServingSettings.max_buffered_bytes, body),
            max_reply_bytes=self.max_reply_mib * MIB,
            max_pixels=round(self.max_megapixels * 1e6),
            max_request_pixels=round(max(self.max_request_megapixels, self.max_megapixels) * 1e6),
            decode_s=self.decode_seconds,
            decoders=self.decoders,
            write_s=self.write_seconds,
            max_connections=self.max_connections,
            requests_per_second=access.requests_per_second,
            burst=access.burst,
            tls=access.tls(),
            residual_alert=self.residual_alert,
        )


def serve(
    model: Annotated[
        Path,
        typer.Argument(help="A model file, or a bundle made by `package`.", callback=existing_path),
    ],
    *,
    host: Annotated[str, typer.Option(help="Address to listen on; 0.0.0.0 for all.")] = "127.0.0.1",
    port: Annotated[
        int, typer.Option(min=0, max=65535, help="Port to listen on; 0 takes a free one.")
    ] = 8000,
    name: Annotated[
        str | None, typer.Option(help="The model's name in URLs. (default: the file's or folder's)")
    ] = None,
    max_batch: Annotated[int, typer.Option(help="Most images in one batch.")] = 32,
    window_ms: Annotated[
        float, typer.Option(help="Milliseconds that an image waits for others to join its batch.")
    ] = 2.0,
    reduced_jpeg: ReducedJpeg = False,
    limits: ServingLimits,
    access: AccessOptions,
    allow_fallback: Annotated[
        bool,
        typer.Option(
            "--allow-fallback", help="For a bundle: run its ONNX file if the engine does not fit."
        ),
    ] = False,
    runtime: RuntimeOptions,
    json: Json = False,
) -> None:
    """Serve a model: KServe v2 under /v2, image files at /embed, Prometheus at /metrics.

    With --api-key-file, every request needs a key as `Authorization: Bearer KEY`,
    except at the health endpoints. Without it, anyone who reaches the address
    can use the model.
    """
    from gsp_deploy.serving import EmbeddingService, address_of, listen
    from gsp_deploy.serving import serve as run

    settings, keys = limits.settings(max_batch, window_ms, access), access.keys()
    settings = replace(settings, reduced_jpeg=reduced_jpeg)
    called = _checked_name(name or Path(os.path.abspath(model)).stem)
    _refuse_fallback(model, allow_fallback)
    with (
        listen(host, port) as listener,
        _opened(model, runtime, max_batch, allow_fallback) as session,
    ):
        service = EmbeddingService(session, called, settings, keys)
        info, url = session.info, address_of(listener, "https" if settings.tls else "http")
        if json:
            show.document("serve", {"url": url, "model": called, "runtime": info.runtime})
        show.note(f"serving {called} ({info.precision}, {info.runtime} {info.device}) at {url}")
        show.note(f"image files: {url}/embed; KServe: {url}/v2/models/{called}/infer")
        if not keys:
            show.note(
                f"there is no authentication: everybody who reaches {url} can use the model; "
                "pass --api-key-file to ask for a key"
            )
        run(service, listener, settings, show.note)
    show.note("stopped; every accepted request was answered, none was dropped")


def _refuse_fallback(model: Path, allow_fallback: bool) -> None:
    from gsp_deploy.errors import UsageError

    if allow_fallback and not model.is_dir():
        raise UsageError(f"--allow-fallback belongs to a bundle, and {model} is none")


def _opened(
    model: Path, runtime: RuntimeOptions, max_batch: int, allow_fallback: bool
) -> AbstractContextManager[EmbeddingSession]:
    from gsp_deploy.bundle.opening import open_bundle_with
    from gsp_deploy.runtime import open_with

    options = replace(runtime.for_model(model), max_batch=max_batch)
    if not model.is_dir():
        return open_with(model, options)
    return open_bundle_with(model, options, allow_fallback=allow_fallback)


def _checked_name(name: str) -> str:
    from gsp_deploy.errors import UsageError

    if not re.fullmatch(r"[A-Za-z0-9_.-]+", name):
        raise UsageError(
            f"a model's name is part of URLs and takes letters, digits, _ . -, got {name!r}; "
            "pass --name"
        )
    return name
