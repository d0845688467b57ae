"""A collection of Milvus: a server, or a file ending in .db that Milvus Lite opens.

The stamp is one of the collection's properties. A token, or `user:password`, comes from the
variable `MILVUS_TOKEN`.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from typing import Any, ClassVar

import numpy as np
from pymilvus import DataType, MilvusClient
from pymilvus.exceptions import MilvusException

from gsp_deploy.errors import MissingCapabilityError
from gsp_deploy.retrieval.servers.place import Place
from gsp_deploy.retrieval.servers.store import REQUEST, Found, Point, Request, Store

_STAMP, _KEY, _ID, _VECTOR = "gsp_deploy", "key", "id", "embedding"
_LONGEST_KEY, _LONGEST_ID = 36, 65_535
SECONDS = 60
# A search or a count sees everything that was written before it.
_SEES_ALL: dict[str, Any] = {"consistency_level": "Strong"}


class MilvusStore:
    """One collection of Milvus."""

    errors: ClassVar[tuple[type[Exception], ...]] = (MilvusException, ValueError, OSError)
    request: ClassVar[Request] = REQUEST

    def __init__(self, place: Place) -> None:
        logging.getLogger("pymilvus").setLevel(logging.CRITICAL)  # it prints each error it raises
        if place.path is not None and find_spec("milvus_lite") is None:
            raise MissingCapabilityError(
                "a Milvus collection in a file needs milvus-lite: pip install milvus-lite, or name "
                "a server"
            )
        self._name, self._is_loaded = place.collection, False
        token = os.environ.get("MILVUS_TOKEN", "")
        self._client = MilvusClient(place.uri, token=token, timeout=SECONDS)

    def stamp(self) -> str | None:
        """Return the collection's stamp; empty if it has none, None if there is no collection."""
        if not self._client.has_collection(self._name):
            return None
        properties = self._client.describe_collection(self._name).get("properties") or {}
        return str(properties.get(_STAMP, ""))

    def create(self, dim: int, stamp: str) -> None:
        """Make the collection, for vectors of length `dim` and the cosine, with its stamp."""
        schema = self._client.create_schema(auto_id=False)
        schema.add_field(_KEY, DataType.VARCHAR, max_length=_LONGEST_KEY, is_primary=True)
        schema.add_field(_ID, DataType.VARCHAR, max_length=_LONGEST_ID)
        schema.add_field(_VECTOR, DataType.FLOAT_VECTOR, dim=dim)
        index = self._client.prepare_index_params()
        index.add_index(_VECTOR, index_type="AUTOINDEX", metric_type="COSINE")
        self._client.create_collection(
            self._name, schema=schema, index_params=index, properties={_STAMP: stamp}
        )

    def upsert(self, points: Sequence[Point]) -> None:
        """Write points, and replace those that have the same key."""
        rows = [{_KEY: p.key, _ID: p.id, _VECTOR: p.vector.tolist()} for p in points]
        self._client.upsert(self._name, rows)

    def nearest(self, vectors: np.ndarray, k: int) -> list[list[Found]]:
        """Return the `k` nearest points of each unit vector `(n, D)`, best first."""
        self._load()
        answers = self._client.search(
            self._name, vectors.tolist(), limit=k, output_fields=[_ID], **_SEES_ALL
        )
        return [
            [Found(float(hit["distance"]), str(hit["entity"][_ID])) for hit in answer]
            for answer in answers
        ]

    def names(self) -> Iterator[list[str]]:
        """Yield the ids of all points, in batches."""
        self._load()
        rows = self._client.query_iterator(
            self._name, batch_size=self.request.points, output_fields=[_ID], **_SEES_ALL
        )
        try:
            while batch := rows.next():
                yield [str(row[_ID]) for row in batch]
        finally:
            rows.close()

    def delete(self, keys: Sequence[str]) -> None:
        """Delete the points that have these keys."""
        self._client.delete(self._name, ids=list(keys))

    def count(self) -> int:
        """Return the number of points."""
        self._load()
        (row,) = self._client.query(self._name, output_fields=["count(*)"], **_SEES_ALL)
        return int(row["count(*)"])

    def close(self) -> None:
        """Close the connection."""
        self._client.close()

    def _load(self) -> None:
        """Load the collection, as a search needs it: someone may have released it."""
        if not self._is_loaded:
            self._client.load_collection(self._name)
            self._is_loaded = True


STORE: type[Store] = MilvusStore
