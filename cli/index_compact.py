"""`gsp-deploy index-compact`: rewrite an index after many changes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from gsp_deploy.base.words import counted
from gsp_deploy_cli.index import (
    WantedRecall,
    kind_and_recall,
    recall_fields,
    report_gallery,
    show_trade,
)
from gsp_deploy_cli.index_remove import Index
from gsp_deploy_cli.options.common import Json
from gsp_deploy_cli.tables import show

if TYPE_CHECKING:
    from gsp_deploy.retrieval.gallery import Gallery
    from gsp_deploy.retrieval.servers import Place


def index_compact(
    gallery: Index,
    *,
    recall: WantedRecall = None,
    json: Json = False,
) -> None:
    """Rewrite an index after many changes, so that searches are fast and find much again.

    A folder is built again from its embeddings. A table of LanceDB loses its
    small files and deleted rows, and its index gets the rows that it lacks.
    Others may search meanwhile.
    """
    from gsp_deploy.retrieval.servers.place import place_in

    if (place := place_in(gallery)) is None:
        _compact_folder(Path(gallery), recall, json)
    else:
        _compact_collection(place, recall, json)


def _compact_folder(folder: Path, recall: float | None, json: bool) -> None:
    from gsp_deploy.retrieval.gallery import compacted, open_gallery, write_gallery
    from gsp_deploy.retrieval.gallery.lock import sole_change

    with sole_change(folder):
        opened = open_gallery(folder, to_change=True)
        changed = compacted(opened, recall)
        write_gallery(changed, folder, force=True)
    show.remark(_gain(opened, changed))
    report_gallery(changed, folder, json)


def _gain(old: Gallery, new: Gallery) -> str:
    """Return in a line what a gallery gained: the recall of both is of held-out queries."""
    from gsp_deploy.retrieval.gallery.changing import imbalance_of

    if new.recall is None or old.recall is None:
        return "a flat gallery has no holes and no cells: nothing was gained"
    measured = f"{100 * old.recall.at_10.value:.1f} -> {100 * new.recall.at_10.value:.1f} %"
    gained = f"recall@10 {measured}, measured among {old.recall.images:,} -> {new.recall.images:,}"
    before, after = imbalance_of(old), imbalance_of(new)
    if before is None or after is None:
        return gained
    return f"{gained}; imbalance of the cells {before:.2f} -> {after:.2f}"


def _compact_collection(place: Place, recall: float | None, json: bool) -> None:
    from gsp_deploy.retrieval.servers import open_collection
    from gsp_deploy.retrieval.trade import check_recall

    check_recall("ivf-pq", recall)
    with open_collection(place) as collection, show.status("compacting"):
        done, images = collection.compact(recall), len(collection)
    files, outside, size = done.files, done.outside, done.size
    measured, trade = (None, None) if done.trained is None else done.trained
    if json:
        found = {"index": str(place), "images": images, "files": files, "outside": outside}
        found |= {"bytes": size, **recall_fields(measured, trade)}
        show.document("index-compact", found)
        return
    rows = [
        ("contains", counted(images, "image")),
        ("files", f"{files[0]:,} -> {files[1]:,}"),
        ("images outside the index", f"{outside[0]:,} -> {outside[1]:,}"),
        ("data", f"{size[0] / 1e6:,.1f} -> {size[1] / 1e6:,.1f} MB"),
    ]
    if measured is not None:
        rows += kind_and_recall("ivf-pq", measured)
    show.facts(str(place), rows)
    show_trade(trade)
