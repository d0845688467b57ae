"""`gsp-deploy index-add`: add images or embeddings to an index."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from gsp_deploy_cli.index import Sources, TableModel, filled, report_gallery
from gsp_deploy_cli.options.common import Json, ReadingOptions
from gsp_deploy_cli.options.inputs import ModelAndImages, existing_index, named_source
from gsp_deploy_cli.options.runtime import RuntimeOptions
from gsp_deploy_cli.tables import show


def index_add(
    sources: Sources,
    *,
    to: Annotated[
        str,
        typer.Option(
            "--to",
            help="A folder made by `index`; or SERVER:URI/COLLECTION, as `index --to` fills.",
            callback=existing_index,
        ),
    ],
    model: TableModel = None,
    reading: ReadingOptions,
    runtime: RuntimeOptions,
    json: Json = False,
) -> None:
    """Add images or embeddings to an index.

    An image that is there already, by name, stays as it is in a folder, and is
    replaced in a collection. The model must be one that may search the index.
    Images are decoded as for the index.
    """
    from gsp_deploy.retrieval.servers.place import place_in

    if (place := place_in(to)) is None:
        _add_to_folder(Path(to), sources, model, reading, runtime, json)
        return
    from gsp_deploy.retrieval.servers import open_collection
    from gsp_deploy_cli.index_to import Training, send_to

    with open_collection(place) as collection:
        reading = _as_for(collection.identity.reduced_jpeg, sources, model, reading)
    send_to(place, sources, model, runtime, reading, json, Training())


def _as_for(
    reduced: bool, sources: list[str], model: Path | None, reading: ReadingOptions
) -> ReadingOptions:
    """Return how to decode images, so that it is as for the index."""
    has_images = isinstance(named_source(sources, model), ModelAndImages)
    return replace(reading, reduced_jpeg=True) if reduced and has_images else reading


def _add_to_folder(
    gallery: Path,
    sources: list[str],
    model: Path | None,
    reading: ReadingOptions,
    runtime: RuntimeOptions,
    json: bool,
) -> None:
    from gsp_deploy.retrieval.gallery import added, open_gallery, write_gallery
    from gsp_deploy.retrieval.gallery.lock import sole_change

    with sole_change(gallery):
        opened = open_gallery(gallery, to_change=True)
        same = _as_for(opened.identity.reduced_jpeg, sources, model, reading)
        addition = filled(sources, model, runtime, same)
        changed, warning = added(opened, addition)
        write_gallery(changed, gallery, force=True)
    if warning is not None:
        show.warning(warning)
    there = len(opened.files) + len(addition.files) - len(changed.files)
    if there:
        show.remark(f"{there:,} of {len(addition.files):,} were there already")
    report_gallery(changed, gallery, json)
