"""A table of LanceDB, which runs in this process: a folder, or a prefix of an object store.

The stamp is in the metadata of the table's schema. A store's credentials come from the variables
that its own client reads, such as `AWS_ACCESS_KEY_ID` and `AWS_ENDPOINT_URL`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import timedelta
from typing import Any, ClassVar

import lancedb
import numpy as np
import pyarrow as pa
from lancedb.index import BTree

from gsp_deploy.retrieval.servers import lance_index
from gsp_deploy.retrieval.servers.lance_table import (
    DISTANCE,
    ID,
    KEY,
    QUERY,
    VECTOR,
    columns,
    key_in,
)
from gsp_deploy.retrieval.servers.place import Place
from gsp_deploy.retrieval.servers.store import (
    Compacted,
    Found,
    Point,
    Request,
    TrainableStore,
    Trained,
)

_STAMP = b"gsp_deploy"
_ABSENT = "was not found"
# Versions of the table that are older are deleted. A reader holds one for the time of a search.
_KEPT = timedelta(days=1)


class LanceStore:
    """One table of LanceDB."""

    errors: ClassVar[tuple[type[Exception], ...]] = (ValueError, RuntimeError, OSError)
    request: ClassVar[Request] = Request(8192, 1 << 23)  # each is a new version of the table

    def __init__(self, place: Place) -> None:
        self._name = place.collection
        # A reader looks for a newer version of the table before each search.
        self._base = lancedb.connect(place.uri, read_consistency_interval=timedelta(0))
        self._opened: Any = None

    @property
    def table(self) -> Any:
        """LanceDB's table, which must exist."""
        if self._opened is None:
            self._opened = self._base.open_table(self._name)
        return self._opened

    def stamp(self) -> str | None:
        """Return the table's stamp; empty if it has none, None if there is no table."""
        try:
            metadata = self.table.schema.metadata or {}
        except ValueError as error:
            if _ABSENT in str(error):
                return None
            raise
        return str(metadata.get(_STAMP, b"").decode())

    def create(self, dim: int, stamp: str) -> None:
        """Make the table, for vectors of length `dim` and the cosine, with its stamp."""
        schema = columns(dim).with_metadata({_STAMP: stamp.encode()})
        self._opened = self._base.create_table(self._name, schema=schema)
        self._opened.create_index(KEY, config=BTree())  # without it, each request reads all keys

    def upsert(self, points: Sequence[Point]) -> None:
        """Write points, all or none, and replace those that have the same key."""
        vectors = np.stack([point.vector for point in points])
        data = [
            pa.array([point.key for point in points]),
            pa.array([point.id for point in points]),
            pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), vectors.shape[1]),
        ]
        rows = pa.Table.from_arrays(data, schema=columns(vectors.shape[1]))
        merge = self.table.merge_insert(KEY)
        merge.when_matched_update_all().when_not_matched_insert_all().execute(rows)

    def nearest(self, vectors: np.ndarray, k: int) -> list[list[Found]]:
        """Return the `k` nearest points of each unit vector `(n, D)`, best first."""
        found: list[list[Found]] = [[] for _ in vectors]
        if not len(vectors):
            return found
        hits = lance_index.searched(self.table, vectors, k, lance_index.setting_of(self.table), ID)
        queries = hits[QUERY].to_pylist() if QUERY in hits.column_names else [0] * len(hits)
        rows = zip(queries, hits[DISTANCE].to_pylist(), hits[ID].to_pylist(), strict=True)
        for query, distance, name in rows:
            found[query].append(Found(1 - distance, name))
        return found

    def names(self) -> Iterator[list[str]]:
        """Yield the ids of all points, in batches."""
        for batch in self.table.search().select([ID]).to_batches():
            yield batch[ID].to_pylist()

    def delete(self, keys: Sequence[str]) -> None:
        """Delete the points that have these keys."""
        self.table.delete(key_in(keys))

    def train(self, wanted: float | None) -> Trained:
        """Train the index, measure it, and choose the search that reaches a recall@10."""
        return lance_index.train(self.table, wanted)

    def compact(self, wanted: float | None) -> Compacted:
        """Join small files, drop deleted rows, and bring all rows into the index.

        The index is trained again if `wanted` is given, or if half of the images or more were
        added after its training.
        """
        before, trained = self._state(), None
        self.table.optimize(cleanup_older_than=_KEPT)
        known = lance_index.images_trained(self.table)
        if wanted is not None or (known is not None and self.count() >= 2 * known):
            trained = self.train(wanted)
        files, outside, size = zip(before, self._state(), strict=True)
        return Compacted(files, outside, size, trained)

    def _state(self) -> tuple[int, int, int]:
        """Return the number of files, of images outside the index, and the bytes of the data."""
        stats = self.table.stats()
        indexes = [index for index in self.table.list_indices() if index.columns == [VECTOR]]
        outside = max((index.num_unindexed_rows for index in indexes), default=0)
        return stats["fragment_stats"]["num_fragments"], outside, stats["total_bytes"]

    def count(self) -> int:
        """Return the number of points."""
        return int(self.table.count_rows())

    def close(self) -> None:
        """Close the table: LanceDB frees its files when nothing refers to them."""
        self._opened = None


STORE: type[TrainableStore] = LanceStore
