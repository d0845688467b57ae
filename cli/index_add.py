"""`gsp-deploy index-add`: add images or embeddings to an index."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from gsp_deploy_cli.index import Sources, TableModel, filled, report_gallery
from gsp_deploy_cli.options.common import Json, ReadingOptions
from gsp_deploy_cli.options.inputs import existing_path, model_and_images
from gsp_deploy_cli.options.runtime import RuntimeOptions
from gsp_deploy_cli.tables import show


def index_add(
    sources: Sources,
    *,
    gallery: Annotated[
        Path, typer.Option("--to", help="A folder made by `index`.", callback=existing_path)
    ],
    model: TableModel = None,
    reading: ReadingOptions,
    runtime: RuntimeOptions,
    json: Json = False,
) -> None:
    """Add images or embeddings to an index. Those that it has already, by name, stay as they are.

    The model must be one that may search the index. Images are decoded as for
    the index.
    """
    from gsp_deploy.retrieval.gallery import added, open_gallery, write_gallery
    from gsp_deploy.retrieval.gallery.lock import sole_change

    with sole_change(gallery):
        opened = open_gallery(gallery, to_change=True)
        if model_and_images(sources, model) is not None and opened.identity.reduced_jpeg:
            reading = replace(reading, reduced_jpeg=True)
        addition = filled(sources, model, runtime, reading)
        changed, warning = added(opened, addition)
        write_gallery(changed, gallery, force=True)
    if warning is not None:
        show.warning(warning)
    there = len(opened.files) + len(addition.files) - len(changed.files)
    if there:
        show.remark(f"{there:,} of {len(addition.files):,} were there already")
    report_gallery(changed, gallery, json)
