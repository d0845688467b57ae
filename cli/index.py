"""`gsp-deploy index`: fill an index that you can search, from images or embeddings."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple

import typer

from gsp_deploy.base.choices import GalleryKind
from gsp_deploy.base.words import counted
from gsp_deploy.errors import UsageError
from gsp_deploy_cli.options.common import Force, Json, ReadingOptions
from gsp_deploy_cli.options.gallery import embedding, identity_named
from gsp_deploy_cli.options.inputs import (
    ModelAndImages,
    existing_file,
    existing_images,
    named_source,
)
from gsp_deploy_cli.options.runtime import RuntimeOptions
from gsp_deploy_cli.tables import show

if TYPE_CHECKING:
    from gsp_deploy.retrieval.gallery import Gallery
    from gsp_deploy.retrieval.identity import ModelIdentity
    from gsp_deploy.retrieval.recall import Recall
    from gsp_deploy.retrieval.trade import Trade


WantedRecall = Annotated[
    float | None,
    typer.Option(help="Choose the fastest search that reaches this recall@10, as 0.99."),
]
Sources = Annotated[
    list[str],
    typer.Argument(
        help="A model and its images (folders, files or glob patterns); or what embed wrote, "
        "with or without its model before it: one folder, .npy, .npz or .parquet.",
        callback=existing_images,
    ),
]
TableModel = Annotated[
    Path | None,
    typer.Option(
        help="The model of a .npy, .npz or .parquet, which does not record it.",
        callback=existing_file,
    ),
]


def index(
    sources: Sources,
    *,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="The folder to write.")
    ] = None,
    to: Annotated[
        tuple[str, str] | None,
        typer.Option(
            "--to",
            metavar="SERVER URI",
            help="Instead of a folder, a collection in a vector store: qdrant, milvus, pgvector "
            "or lance, and URI/COLLECTION.",
        ),
    ] = None,
    kind: Annotated[
        GalleryKind,
        typer.Option(
            help="flat: exact; hnsw, ivf, ivf-pq: faster from 100,000 images on, approximate."
        ),
    ] = "flat",
    recall: WantedRecall = None,
    model: TableModel = None,
    reading: ReadingOptions,
    runtime: RuntimeOptions,
    force: Force = False,
    json: Json = False,
) -> None:
    """Fill an index from images or from embeddings, and record which model they are from.

    The index is a folder for faiss, or a collection in a vector store.
    """
    if to is not None:
        if output is not None or force:
            raise UsageError(
                "--to sends to a collection, which an image with the same name replaces; leave "
                "--output and --force out"
            )
        from gsp_deploy.retrieval.servers.place import Place
        from gsp_deploy_cli.index_to import Training, send_to

        place, training = Place.parse(*to), Training(kind, recall)
        training.check(place)
        send_to(place, sources, model, runtime, reading, json, training)
        return
    if output is None:
        raise UsageError("name a folder with --output, or a vector server with --to")
    from gsp_deploy.base.file_names import require_utf8
    from gsp_deploy.base.folders import refuse_to_replace
    from gsp_deploy.retrieval.gallery import write_gallery
    from gsp_deploy.retrieval.gallery.index import KIND, MANIFEST, foreign_file
    from gsp_deploy.retrieval.gallery.kinds import check_kind

    check_kind(kind, recall)
    require_utf8(output)
    refuse_to_replace(output, force, MANIFEST, KIND, foreign_file)
    gallery = filled(sources, model, runtime, reading, kind, recall)
    write_gallery(gallery, output, force=force)
    report_gallery(gallery, output, json)


def filled(
    sources: list[str],
    model: Path | None,
    runtime: RuntimeOptions,
    reading: ReadingOptions,
    kind: GalleryKind = "flat",
    recall: float | None = None,
) -> Gallery:
    """Return a gallery of the images or the embeddings that a command names.

    Raises:
        UsageError: the sources are neither a model and images, nor one set of embeddings.
    """
    filling = _Filling(kind, recall)
    named = named_source(sources, model)
    if isinstance(named, ModelAndImages):
        return _from_images(named, filling, runtime, reading)
    identity = identity_named(named.model, runtime, reading)
    return _from_embeddings(named.path, filling, identity)


class _Filling(NamedTuple):
    """The kind of index, and the recall that its search should reach."""

    kind: GalleryKind
    recall: float | None


def _from_embeddings(path: Path, filling: _Filling, identity: ModelIdentity | None) -> Gallery:
    from gsp_deploy.retrieval.dataset import open_embeddings
    from gsp_deploy.retrieval.gallery import gallery_from

    gallery, warning = gallery_from(open_embeddings(path), filling.kind, identity, filling.recall)
    if warning is not None:
        show.warning(warning)
    return gallery


def _from_images(
    named: ModelAndImages, filling: _Filling, runtime: RuntimeOptions, reading: ReadingOptions
) -> Gallery:
    from gsp_deploy.retrieval.gallery import build_gallery

    with embedding(named.model, named.images, runtime, reading) as (session, _, reader, advance):
        return build_gallery(session, reader, filling.kind, advance, filling.recall)


def report_gallery(gallery: Gallery, folder: Path, json: bool) -> None:
    """Print what a gallery contains and how well it searches."""

    identity = gallery.identity
    if json:
        failures = [{"file": str(f.file), "reason": f.reason} for f in gallery.failures]
        found = {
            "index": str(folder),
            "kind": gallery.kind,
            "images": len(gallery.files),
            **recall_fields(gallery.recall, gallery.trade),
            "model": asdict(identity),
            "skipped": failures,
        }
        show.document("index", found)
        return
    rows = [
        ("indexed", f"{counted(len(gallery.files), 'image')}, {identity.embedding_dim}-D"),
        *kind_and_recall(gallery.kind, gallery.recall),
        ("model", f"{identity.file}, {identity.precision}, SHA-256 {identity.sha256[:12]}"),
    ]
    show.facts(str(folder), rows)
    show_trade(gallery.trade)
    show.skipped([failure.reason for failure in gallery.failures])


def recall_fields(recall: Recall | None, trade: Trade | None) -> dict[str, object]:
    """Return the fields of a document about an index's recall; None where nothing was measured."""
    return {
        "recall": None if recall is None else asdict(recall),
        "trade": None if trade is None else asdict(trade),
    }


def show_trade(trade: Trade | None) -> None:
    """Print the settings that were tried, if any, and which was chosen."""
    if trade is None:
        return
    rows = [
        [
            trial.words,
            f"{100 * trial.recall:.1f} %",
            f"{trial.milliseconds:.3g}",
            "chosen" if trial == trade.chosen else "",
        ]
        for trial in trade.trials
    ]
    title = f"recall against time, to reach {100 * trade.wanted:g} %"
    show.table(title, ["search", "recall@10", "ms a query, here", ""], rows)


def kind_and_recall(kind: str, recall: Recall | None) -> list[tuple[str, str]]:
    """Return the rows of a report about the kind of an index and its recall; None is exact."""
    if recall is None:
        return [("kind", f"{kind}, exact")]
    held_out = f"{counted(recall.queries, 'query', 'queries')} held out of {recall.images:,}"
    return [
        ("kind", f"{kind}, approximate"),
        ("recall@1", f"{recall.at_1}, {held_out}"),
        ("recall@10", str(recall.at_10)),
    ]
