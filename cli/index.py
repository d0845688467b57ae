"""`gsp-deploy index`: embed image files into an index that you can search."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gsp_deploy.base.choices import GalleryKind
from gsp_deploy.base.words import counted
from gsp_deploy_cli.options.common import BatchSize, Force, Images, Json, ModelFile, Strict
from gsp_deploy_cli.options.runtime import RuntimeOptions
from gsp_deploy_cli.tables import show

if TYPE_CHECKING:
    from gsp_deploy.retrieval.gallery import Gallery


def index(
    model: ModelFile,
    images: Images,
    *,
    output: Annotated[Path, typer.Option("--output", "-o", help="The folder to write.")],
    kind: Annotated[
        GalleryKind,
        typer.Option(help="flat: exact; hnsw or ivf: faster from 100,000 images on, approximate."),
    ] = "flat",
    batch: BatchSize = 32,
    strict: Strict = False,
    runtime: RuntimeOptions,
    force: Force = False,
    json: Json = False,
) -> None:
    """Embed images into a faiss index, and record which model did it."""
    from gsp_deploy.base.folders import refuse_to_replace
    from gsp_deploy.images.files import ImageReader, find_images
    from gsp_deploy.retrieval.gallery import build_gallery, identity_of, write_gallery
    from gsp_deploy.retrieval.gallery.index import KIND, MANIFEST, foreign_file

    refuse_to_replace(output, force, MANIFEST, KIND, foreign_file)
    files = [file.absolute() for file in find_images(images, show.note)]
    with runtime.open(model, many=True) as session:
        identity_of(session)  # before any image is decoded
        spec = session.info.preprocessing
        assert spec is not None
        reader = ImageReader(files, spec, batch, strict)
        with show.counting("embedding", len(files)) as advance:
            gallery = build_gallery(session, reader, kind, advance)
    write_gallery(gallery, output, force=force)
    _report(gallery, output, json)


def _report(gallery: Gallery, folder: Path, json: bool) -> None:
    import dataclasses

    identity = gallery.identity
    if json:
        failures = [{"file": str(f.file), "reason": f.reason} for f in gallery.failures]
        found = {
            "index": str(folder),
            "kind": gallery.kind,
            "images": len(gallery.files),
            "recall": None if gallery.recall is None else dataclasses.asdict(gallery.recall),
            "model": dataclasses.asdict(identity),
            "skipped": failures,
        }
        show.document("index", found)
        return
    rows = [
        ("indexed", f"{counted(len(gallery.files), 'image')}, {identity.embedding_dim}-D"),
        *_kind_and_recall(gallery),
        ("model", f"{identity.file}, {identity.precision}, SHA-256 {identity.sha256[:12]}"),
    ]
    show.facts(str(folder), rows)
    show.skipped([failure.reason for failure in gallery.failures])


def _kind_and_recall(gallery: Gallery) -> list[tuple[str, str]]:
    recall = gallery.recall
    if recall is None:
        return [("kind", f"{gallery.kind}, exact")]
    held_out = counted(recall.queries, "query", "queries") + " held out of the index"
    return [
        ("kind", f"{gallery.kind}, approximate"),
        ("recall@1", f"{recall.at_1}, {held_out}"),
        ("recall@10", str(recall.at_10)),
    ]
