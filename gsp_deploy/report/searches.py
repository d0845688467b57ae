"""Searches of a gallery, as `search` wrote them, with the images that are still there."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gsp_deploy.errors import DataError
from gsp_deploy.images.data_uri import data_uri
from gsp_deploy.images.files import name_with_folder
from gsp_deploy.images.preprocessing import decode_image
from gsp_deploy.report.neighbours import THUMBNAIL, Tile


@dataclass(frozen=True)
class Found:
    """One image of the gallery that a query found, and the cosine between the two embeddings."""

    file: str
    cosine: float


@dataclass(frozen=True)
class Searched:
    """One query and what it found, the nearest first."""

    query: str
    hits: tuple[Found, ...]

    @classmethod
    def from_result(cls, data: Mapping[str, Any]) -> Searched:
        """Read one entry of `results` in what `gsp-deploy search --json` prints."""
        hits = tuple(Found(str(hit["file"]), float(hit["cosine"])) for hit in data["hits"])
        return cls(str(data["query"]), hits)


def read_search(data: Mapping[str, Any]) -> list[Searched]:
    """Read what `gsp-deploy search --json` prints: one entry per query."""
    return [Searched.from_result(result) for result in data["results"]]


def tiles_of(searched: Searched) -> tuple[Tile, ...]:
    """Return the query and its hits as pictures; empty if one of the files is gone by now.

    The folder of an image names its class, as everywhere in a report.
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
