"""Name what a search found, in a gallery or on a vector server."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Hit:
    """An image of the gallery that a query found: its rank from 1, its cosine, its file."""

    rank: int
    cosine: float
    file: str


@dataclass(frozen=True)
class Row:
    """A query's file and its hits."""

    query: str
    hits: Sequence[Hit]
