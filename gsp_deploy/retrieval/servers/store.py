"""The protocol of a store: one collection, through the client of its server."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Sequence
from importlib import import_module
from typing import ClassVar, NamedTuple, Protocol

import numpy as np

from gsp_deploy.retrieval.recall import Recall
from gsp_deploy.retrieval.servers.place import Place
from gsp_deploy.retrieval.trade import Trade

# The place of ids among UUIDs of names (RFC 9562, version 5).
_IDS = uuid.UUID("6e9f6f0e-5d0b-5c59-9f53-0f9a1f0f7a11")


class Point(NamedTuple):
    """One embedding: a key made of its id, the id, and a unit vector float32 `(D,)`."""

    key: str
    id: str
    vector: np.ndarray


class Request(NamedTuple):
    """The most points of one request, and about the most numbers in their vectors."""

    points: int
    numbers: int


REQUEST = Request(1000, 1 << 18)  # 1 MiB


class Found(NamedTuple):
    """A neighbour of a query: its cosine and its id."""

    cosine: float
    id: str


class Trained(NamedTuple):
    """The recall of an index that was trained, and the settings tried for a wanted recall."""

    recall: Recall
    trade: Trade | None


class Compacted(NamedTuple):
    """A collection before and after it was compacted, and its index if it was trained again.

    Each pair is before and after: the number of files, the images that no index contains, and the
    bytes of the data.
    """

    files: tuple[int, int]
    outside: tuple[int, int]
    size: tuple[int, int]
    trained: Trained | None


class Store(Protocol):
    """One collection of a vector server, which may not exist yet.

    The methods raise the client's own exceptions, `errors`.
    """

    errors: ClassVar[tuple[type[Exception], ...]]
    request: ClassVar[Request]

    def __init__(self, place: Place) -> None:
        """Connect to the server."""

    def stamp(self) -> str | None:
        """Return the collection's stamp; empty if it has none, None if there is no collection."""

    def create(self, dim: int, stamp: str) -> None:
        """Make the collection, for vectors of length `dim` and the cosine, with its stamp."""

    def upsert(self, points: Sequence[Point]) -> None:
        """Write points, and replace those that have the same key. Keys differ within a call."""

    def nearest(self, vectors: np.ndarray, k: int) -> list[list[Found]]:
        """Return the `k` nearest points of each unit vector `(n, D)`, best first."""

    def names(self) -> Iterable[Sequence[str]]:
        """Return the ids of all points, in batches."""

    def delete(self, keys: Sequence[str]) -> None:
        """Delete the points that have these keys."""

    def count(self) -> int:
        """Return the number of points."""

    def close(self) -> None:
        """Close the connection."""


class TrainableStore(Store, Protocol):
    """A store whose index gsp-deploy trains and compacts."""

    def train(self, wanted: float | None) -> Trained:
        """Train the index, measure it, and choose the search that reaches a recall@10."""

    def compact(self, wanted: float | None) -> Compacted:
        """Rewrite the collection so that it takes fewer files and its index contains all of it."""


def store_of(place: Place) -> type[Store]:
    """Return the kind of store for a place; its client is imported here and not before."""
    module = import_module(f"gsp_deploy.retrieval.servers.{place.server}")
    kind: type[Store] = module.STORE
    return kind


def key_of(name: str) -> str:
    """Return the key of an id: the same in every run, and short for any length of the id.

    >>> key_of("photos/a.jpg") == key_of("photos/a.jpg") != key_of("photos/b.jpg")
    True
    """
    return str(uuid.uuid5(_IDS, name))
