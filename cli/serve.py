"""`gsp-deploy serve`: a model over HTTP, for a machine without Triton Inference Server."""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from gsp_deploy_cli import show
from gsp_deploy_cli.options import Device, HostCode, Json, Plugins, Provider, Threads

LIMITS = "Limits"


def serve(
    model: Annotated[Path, typer.Argument(help="A model file, or a bundle made by `package`.")],
    host: Annotated[
        str, typer.Option(help="Address to listen on; 0.0.0.0 for all. There is no authentication.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes any free one.")] = 8000,
    name: Annotated[
        str | None, typer.Option(help="The model's name in URLs. (default: the file's)")
    ] = None,
    max_batch: Annotated[int, typer.Option(help="Images through the network at once.")] = 32,
    window_ms: Annotated[
        float, typer.Option(help="How long an image waits for others to join its batch.")
    ] = 2.0,
    queue_limit: Annotated[
        int,
        typer.Option(help="Images accepted, not answered; more get 503.", rich_help_panel=LIMITS),
    ] = 256,
    timeout: Annotated[
        float, typer.Option(help="Seconds that a request may take.", rich_help_panel=LIMITS)
    ] = 30.0,
    linger_seconds: Annotated[
        float,
        typer.Option(
            help="Go on serving after SIGTERM, while saying not ready.", rich_help_panel=LIMITS
        ),
    ] = 1.0,
    drain_seconds: Annotated[
        float,
        typer.Option(help="Time after that to answer what was accepted.", rich_help_panel=LIMITS),
    ] = 30.0,
    max_body_mib: Annotated[
        int, typer.Option(min=1, help="Size of a request's body, MiB.", rich_help_panel=LIMITS)
    ] = 32,
    max_megapixels: Annotated[
        float, typer.Option(min=0.01, help="Size of one image.", rich_help_panel=LIMITS)
    ] = 40.0,
    decoders: Annotated[
        int, typer.Option(help="Threads that decode images.", rich_help_panel=LIMITS)
    ] = 2,
    allow_fallback: Annotated[
        bool,
        typer.Option("--allow-fallback", help="Of a bundle, take the ONNX if the engine is unfit."),
    ] = False,
    device: Device = None,
    provider: Provider = None,
    threads: Threads = None,
    plugin: Plugins = None,
    allow_host_code: HostCode = False,
    json: Json = False,
) -> None:
    """Serve a model: KServe v2 under /v2, image files at /embed, Prometheus at /metrics."""
    from gsp_deploy.bundle import BundleOptions, open_bundle
    from gsp_deploy.errors import UsageError
    from gsp_deploy.runtime import open_session
    from gsp_deploy.serving import EmbeddingService, ServingSettings, address_of, listen
    from gsp_deploy.serving import serve as run
    from gsp_deploy.serving.settings import MIB

    settings = ServingSettings(
        max_batch=max_batch,
        window_ms=window_ms,
        queue_limit=queue_limit,
        timeout_s=timeout,
        linger_s=linger_seconds,
        drain_s=drain_seconds,
        max_body_bytes=max_body_mib * MIB,
        max_buffered_bytes=max(ServingSettings.max_buffered_bytes, max_body_mib * MIB),
        max_pixels=round(max_megapixels * 1e6),
        decoders=decoders,
    )
    called = _checked_name(name or model.resolve().stem)
    if model.is_dir():
        if provider is not None or plugin:
            raise UsageError(f"{model} is a bundle, which takes no --provider and no --plugin")
        bundle = BundleOptions(device, threads, max_batch, allow_fallback, allow_host_code)
        opening = partial(open_bundle, model, bundle)
    else:
        if allow_fallback:
            raise UsageError(f"--allow-fallback belongs to a bundle, and {model} is none")
        opening = partial(
            open_session,
            model,
            device,
            threads=threads,
            provider=provider,
            max_batch=max_batch,
            plugins=plugin or (),
            allow_host_code=allow_host_code,
        )
    with (
        listen(host, port) as listener,
        opening() as session,
    ):
        service = EmbeddingService(session, called, settings)
        info, url = session.info, address_of(listener)
        if json:
            show.document("serve", {"url": url, "model": called, "runtime": info.runtime})
        show.note(f"serving {called} ({info.precision}, {info.runtime} {info.device}) at {url}")
        run(service, listener, settings, show.note)
    show.note("stopped; every accepted request was answered")


def _checked_name(name: str) -> str:
    from gsp_deploy.errors import UsageError

    if not re.fullmatch(r"[A-Za-z0-9_.-]+", name):
        raise UsageError(
            f"a model's name stands in URLs and takes letters, digits, _ . -, got {name!r}; "
            "pass --name"
        )
    return name
