"""The section on searches of a gallery: each query with its hits."""

from __future__ import annotations

from pathlib import Path

from gsp_deploy.errors import DataError
from gsp_deploy.images.data_uri import data_uri
from gsp_deploy.images.files import name_with_folder
from gsp_deploy.images.preprocessing import decode_image
from gsp_deploy.report.content import Block, Hits, Section, Table
from gsp_deploy.report.documents import Documents
from gsp_deploy.report.neighbours import THUMBNAIL, Tile
from gsp_deploy.retrieval.document import Searched

SHOWN = 6
_TEXT = (
    "Each query with the nearest images of the gallery, the nearest first. Green frame: the same "
    "folder as the query, and so the same class. Red frame with a cross: another folder."
)


def search(documents: Documents) -> Section | None:
    """Show the hits of searches; None if no `search` document was read."""
    if not documents.searches:
        return None
    shown = documents.searches[:SHOWN]
    pictures = [tiles for tiles in map(_tiles_of, shown) if tiles]
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


def _tiles_of(searched: Searched) -> tuple[Tile, ...]:
    """Return the query and its hits as pictures; empty if one of the files no longer exists.

    The folder of an image is its class, as everywhere in a report.
    """
    query = Path(searched.query)
    tiles = []
    for file in (searched.query, *(hit.file for hit in searched.hits)):
        path = Path(file)
        try:
            picture = decode_image(path)
        except DataError:
            return ()
        picture.thumbnail((THUMBNAIL, THUMBNAIL))
        same = None if file == searched.query else path.parent.name == query.parent.name
        tiles.append(Tile(data_uri(picture), name_with_folder(path), same))
    return tuple(tiles)
