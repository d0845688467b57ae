"""`gsp-deploy index-remove`: remove images from an index."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from gsp_deploy_cli.index import report_gallery
from gsp_deploy_cli.options.common import Json
from gsp_deploy_cli.options.inputs import existing_path


def index_remove(
    gallery: Annotated[
        Path, typer.Argument(help="A folder made by `index`.", callback=existing_path)
    ],
    images: Annotated[
        list[str],
        typer.Argument(help="Images as the index names them, paths, or glob patterns in quotes."),
    ],
    *,
    json: Json = False,
) -> None:
    """Remove images from an index: it is built again from its embeddings, and measured again."""
    from gsp_deploy.retrieval.gallery import open_gallery, without, write_gallery
    from gsp_deploy.retrieval.gallery.lock import sole_change

    with sole_change(gallery):
        changed = without(open_gallery(gallery, to_change=True), images)
        write_gallery(changed, gallery, force=True)
    report_gallery(changed, gallery, json)
