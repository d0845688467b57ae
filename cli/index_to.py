"""The part of `gsp-deploy index` that fills a collection on a vector server."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from gsp_deploy.base.words import counted
from gsp_deploy_cli.index_sources import embedding, identity_named
from gsp_deploy_cli.options.common import ReadingOptions
from gsp_deploy_cli.options.inputs import model_and_images
from gsp_deploy_cli.options.runtime import RuntimeOptions
from gsp_deploy_cli.tables import show

if TYPE_CHECKING:
    from gsp_deploy.images.files import ImageFailure
    from gsp_deploy.retrieval.identity import ModelIdentity
    from gsp_deploy.retrieval.servers import Place, Sent


def send_to(
    to: tuple[str, str],
    sources: list[str],
    model: Path | None,
    runtime: RuntimeOptions,
    reading: ReadingOptions,
    json: bool,
) -> None:
    """Send the images or the embeddings that a command names, and report what is there then."""
    from gsp_deploy.retrieval.servers import Place

    place = Place.parse(*to)
    if (named := model_and_images(sources, model)) is None:
        _send_stored(place, Path(sources[0]), identity_named(model, runtime, reading), json)
    else:
        first, images = named
        _send_images(place, first, images, runtime, reading, json)


def _send_images(
    place: Place,
    model: Path,
    images: list[str],
    runtime: RuntimeOptions,
    reading: ReadingOptions,
    json: bool,
) -> None:
    from gsp_deploy.retrieval.servers import image_batches, send

    with embedding(model, images, runtime, reading) as (session, identity, reader, advance):
        batches = image_batches(session, reader, advance)
        sent = send(place, batches, identity, session.info.runtime)
    _report(place, sent, identity, reader.failures, json)


def _send_stored(place: Place, path: Path, model: ModelIdentity | None, json: bool) -> None:
    from gsp_deploy.retrieval.checked import model_of
    from gsp_deploy.retrieval.dataset import open_embeddings
    from gsp_deploy.retrieval.servers import send, stored_batches

    stored = open_embeddings(path)
    identity, warning = model_of(stored, model)
    if warning is not None:
        show.warning(warning)
    ran_on = None if stored.manifest is None else stored.manifest.settings.runtime
    with show.counting("sending", None) as advance:
        sent = send(place, stored_batches(stored, identity, advance), identity, ran_on)
    _report(place, sent, identity, (), json)


def _report(
    place: Place,
    sent: Sent,
    identity: ModelIdentity,
    failures: Sequence[ImageFailure],
    json: bool,
) -> None:
    import dataclasses

    if sent.warning is not None:
        show.warning(sent.warning)
    if json:
        found = {
            "index": str(place),
            "kind": place.server,
            "images": sent.total,
            "sent": sent.sent,
            "recall": None,
            "trade": None,
            "model": dataclasses.asdict(identity),
            "skipped": [{"file": str(f.file), "reason": f.reason} for f in failures],
        }
        show.document("index", found)
        return
    rows = [
        ("sent", f"{counted(sent.sent, 'image')}, {identity.embedding_dim}-D"),
        ("contains", counted(sent.total, "image")),
        ("model", f"{identity.file}, {identity.precision}, SHA-256 {identity.sha256[:12]}"),
        ("search", f"--index {shlex.quote(str(place))}"),
    ]
    show.facts(str(place), rows)
    show.skipped([failure.reason for failure in failures])
