"""Searches of a gallery: each query with what it found."""

from __future__ import annotations

from gsp_deploy.images.files import name_with_folder
from gsp_deploy.report.content import Block, Hits, Section, Table
from gsp_deploy.report.documents import Documents
from gsp_deploy.report.searches import Searched, tiles_of

SHOWN = 6
_TEXT = (
    "Each query with the images of the gallery that are nearest to it, the nearest first. "
    "Framed in green: the folder, and so the class, is the query's; in red with a cross: it is "
    "another."
)


def search(documents: Documents) -> Section | None:
    """Show what searches found; None if no `search` document was read."""
    if not documents.searches:
        return None
    shown = documents.searches[:SHOWN]
    pictures = [tiles for tiles in map(tiles_of, shown) if tiles]
    blocks: list[Block] = [Hits(tuple(pictures))] if pictures else []
    blocks += [_table(searched, folded=bool(pictures)) for searched in shown]
    return Section("Search", _TEXT, tuple(blocks))


def _table(searched: Searched, folded: bool) -> Table:
    rows = tuple(
        (str(rank), name_with_folder(hit.file), f"{hit.cosine:.4f}")
        for rank, hit in enumerate(searched.hits, 1)
    )
    caption = f"What {name_with_folder(searched.query)} found"
    return Table(caption, ("rank", "image", "cosine"), rows, folded=folded)
