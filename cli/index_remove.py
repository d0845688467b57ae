"""`gsp-deploy index-remove`: remove images from an index."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gsp_deploy.base.words import counted
from gsp_deploy_cli.index import report_gallery
from gsp_deploy_cli.options.common import Json
from gsp_deploy_cli.options.inputs import existing_index
from gsp_deploy_cli.tables import show

if TYPE_CHECKING:
    from gsp_deploy.retrieval.servers import Place

Index = Annotated[
    str,
    typer.Argument(
        help="A folder made by `index`; or SERVER:URI/COLLECTION, as `index --to` fills.",
        callback=existing_index,
    ),
]


def index_remove(
    gallery: Index,
    images: Annotated[
        list[str],
        typer.Argument(help="Images as the index names them, paths, or glob patterns in quotes."),
    ],
    *,
    json: Json = False,
) -> None:
    """Remove images from an index.

    A folder is built again from its embeddings, and measured again.
    """
    from gsp_deploy.retrieval.servers.place import place_in

    if (place := place_in(gallery)) is None:
        _remove_from_folder(Path(gallery), images, json)
    else:
        _remove_from_collection(place, images, json)


def _remove_from_folder(folder: Path, images: list[str], json: bool) -> None:
    from gsp_deploy.retrieval.gallery import open_gallery, without, write_gallery
    from gsp_deploy.retrieval.gallery.lock import sole_change

    with sole_change(folder):
        changed = without(open_gallery(folder, to_change=True), images)
        write_gallery(changed, folder, force=True)
    report_gallery(changed, folder, json)


def _remove_from_collection(place: Place, images: list[str], json: bool) -> None:
    from gsp_deploy.retrieval.servers import open_collection

    with open_collection(place) as collection:
        removed, left = collection.remove(images), len(collection)
    if json:
        found = {"index": str(place), "kind": place.server, "images": left, "removed": removed}
        show.document("index-remove", found)
        return
    rows = [("removed", counted(removed, "image")), ("contains", counted(left, "image"))]
    show.facts(str(place), rows)
