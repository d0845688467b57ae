"""A collection of Qdrant: a server, or a folder that the client opens itself.

The stamp is in the collection's metadata, which a server has from version 1.16 on. An API key
comes from the variable `QDRANT_API_KEY`.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator, Sequence
from typing import ClassVar

import numpy as np
from qdrant_client import QdrantClient, models
from qdrant_client.http.exceptions import ApiException

from gsp_deploy.retrieval.servers.place import Place
from gsp_deploy.retrieval.servers.qdrant_folder import check_folder
from gsp_deploy.retrieval.servers.store import REQUEST, Found, Point, Request, Store

_STAMP, _ID = "gsp_deploy", "id"
SECONDS = 60


class QdrantStore:
    """One collection of Qdrant."""

    errors: ClassVar[tuple[type[Exception], ...]] = (
        ApiException,
        ValueError,
        RuntimeError,
        OSError,
    )
    request: ClassVar[Request] = REQUEST

    def __init__(self, place: Place) -> None:
        self._name = place.collection
        if place.uri == ":memory:":
            self._client = QdrantClient(":memory:")
        elif place.path is not None:
            check_folder(place.path)
            self._client = QdrantClient(path=place.uri)
        else:
            key = os.environ.get("QDRANT_API_KEY")
            with warnings.catch_warnings():  # docs/gallery.md says to send a key over https
                warnings.filterwarnings("ignore", message="Api key is used with an insecure")
                self._client = QdrantClient(
                    url=place.uri, api_key=key, timeout=SECONDS, check_compatibility=False
                )

    def stamp(self) -> str | None:
        """Return the collection's stamp; empty if it has none, None if there is no collection."""
        if not self._client.collection_exists(self._name):
            return None
        metadata = self._client.get_collection(self._name).config.metadata or {}
        return str(metadata.get(_STAMP, ""))

    def create(self, dim: int, stamp: str) -> None:
        """Make the collection, for vectors of length `dim` and the cosine, with its stamp."""
        vectors = models.VectorParams(size=dim, distance=models.Distance.COSINE)
        self._client.create_collection(self._name, vectors, metadata={_STAMP: stamp})

    def upsert(self, points: Sequence[Point]) -> None:
        """Write points, and replace those that have the same key."""
        batch = models.Batch(
            ids=[point.key for point in points],
            vectors=[point.vector.tolist() for point in points],
            payloads=[{_ID: point.id} for point in points],
        )
        self._client.upsert(self._name, batch, wait=True)

    def nearest(self, vectors: np.ndarray, k: int) -> list[list[Found]]:
        """Return the `k` nearest points of each unit vector `(n, D)`, best first."""
        asked = [
            models.QueryRequest(query=vector.tolist(), limit=k, with_payload=True)
            for vector in vectors
        ]
        answers = self._client.query_batch_points(self._name, asked)
        return [
            [Found(point.score, str((point.payload or {})[_ID])) for point in answer.points]
            for answer in answers
        ]

    def names(self) -> Iterator[list[str]]:
        """Yield the ids of all points, in batches."""
        start = None
        while True:
            points, start = self._client.scroll(
                self._name, limit=self.request.points, offset=start, with_payload=[_ID]
            )
            yield [str((point.payload or {})[_ID]) for point in points]
            if start is None:
                return

    def delete(self, keys: Sequence[str]) -> None:
        """Delete the points that have these keys."""
        self._client.delete(self._name, models.PointIdsList(points=list(keys)), wait=True)

    def count(self) -> int:
        """Return the number of points."""
        return self._client.count(self._name, exact=True).count

    def close(self) -> None:
        """Close the connection."""
        self._client.close()


STORE: type[Store] = QdrantStore
