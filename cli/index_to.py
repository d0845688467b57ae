"""The part of `gsp-deploy index` that fills a collection in a vector store."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from gsp_deploy.base.choices import GalleryKind
from gsp_deploy.base.words import counted
from gsp_deploy.errors import UsageError
from gsp_deploy_cli.index import kind_and_recall, recall_fields, show_trade
from gsp_deploy_cli.options.common import ReadingOptions
from gsp_deploy_cli.options.gallery import embedding, identity_named
from gsp_deploy_cli.options.inputs import ModelAndImages, named_source
from gsp_deploy_cli.options.runtime import RuntimeOptions
from gsp_deploy_cli.tables import show

if TYPE_CHECKING:
    from gsp_deploy.images.files import ImageFailure
    from gsp_deploy.retrieval.identity import ModelIdentity
    from gsp_deploy.retrieval.servers import Place, Sent, Trained


class Training(NamedTuple):
    """The index to train when a collection is filled: `flat` is none."""

    kind: GalleryKind = "flat"
    recall: float | None = None

    def check(self, place: Place) -> None:
        """Raise `UsageError` unless this place can have such an index."""
        from gsp_deploy.retrieval.servers.place import TRAINED
        from gsp_deploy.retrieval.trade import check_recall

        if self == Training():
            return
        if place.server not in TRAINED:
            raise UsageError(
                f"--to {place.server} sends to a server, which has an index of its own; leave "
                "--kind and --recall out"
            )
        if self.kind not in ("flat", "ivf-pq"):
            raise UsageError(
                f"a table of LanceDB is searched exactly (--kind flat) or by --kind ivf-pq, got "
                f"--kind {self.kind}"
            )
        check_recall(self.kind, self.recall)


def send_to(
    place: Place,
    sources: list[str],
    model: Path | None,
    runtime: RuntimeOptions,
    reading: ReadingOptions,
    json: bool,
    training: Training,
) -> None:
    """Send the images or the embeddings that a command names, and report what is there then."""
    named = named_source(sources, model)
    failures: Sequence[ImageFailure] = ()
    if isinstance(named, ModelAndImages):
        sent, identity, failures = _images_sent(place, named, runtime, reading)
    else:
        given = identity_named(named.model, runtime, reading)
        sent, identity = _stored_sent(place, named.path, given)
    if sent.warning is not None:
        show.warning(sent.warning)
    trained = None if training.kind == "flat" else _trained(place, training.recall)
    _report(place, sent, identity, failures, trained, json)


def _images_sent(
    place: Place, named: ModelAndImages, runtime: RuntimeOptions, reading: ReadingOptions
) -> tuple[Sent, ModelIdentity, Sequence[ImageFailure]]:
    from gsp_deploy.retrieval.servers import image_batches, send

    opened = embedding(named.model, named.images, runtime, reading)
    with opened as (session, identity, reader, advance):
        batches = image_batches(session, reader, advance)
        sent = send(place, batches, identity, session.info.runtime)
    return sent, identity, reader.failures


def _stored_sent(
    place: Place, path: Path, model: ModelIdentity | None
) -> tuple[Sent, ModelIdentity]:
    from gsp_deploy.retrieval.checked import model_of
    from gsp_deploy.retrieval.dataset import open_embeddings
    from gsp_deploy.retrieval.servers import send, stored_batches

    stored = open_embeddings(path)
    identity, warning = model_of(stored, model)
    if warning is not None:
        show.warning(warning)
    ran_on = None if stored.manifest is None else stored.manifest.settings.runtime
    with show.counting("sending", None) as advance:
        return send(place, stored_batches(stored, identity, advance), identity, ran_on), identity


def _trained(place: Place, recall: float | None) -> Trained:
    from gsp_deploy.retrieval.servers import open_collection

    with open_collection(place) as collection, show.status("training the index"):
        return collection.train(recall)


def _report(
    place: Place,
    sent: Sent,
    identity: ModelIdentity,
    failures: Sequence[ImageFailure],
    trained: Trained | None,
    json: bool,
) -> None:
    recall, trade = (None, None) if trained is None else trained
    if json:
        found = {
            "index": str(place),
            "kind": place.server,
            "images": sent.total,
            "sent": sent.sent,
            **recall_fields(recall, trade),
            "model": asdict(identity),
            "skipped": [{"file": str(f.file), "reason": f.reason} for f in failures],
        }
        show.document("index", found)
        return
    rows = [
        ("sent", f"{counted(sent.sent, 'image')}, {identity.embedding_dim}-D"),
        ("contains", counted(sent.total, "image")),
        *([] if recall is None else kind_and_recall("ivf-pq", recall)),
        ("model", f"{identity.file}, {identity.precision}, SHA-256 {identity.sha256[:12]}"),
        ("search", f"--index {shlex.quote(str(place))}"),
    ]
    show.facts(str(place), rows)
    show_trade(trade)
    show.skipped([failure.reason for failure in failures])
