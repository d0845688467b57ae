"""A table of PostgreSQL with the extension pgvector.

The stamp is the table's comment. A password comes from libpq's own places: the URI, the variable
`PGPASSWORD`, or the file `.pgpass`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, ClassVar

import numpy as np
import psycopg
from pgvector.psycopg import register_vector
from psycopg import sql

from gsp_deploy.retrieval.servers.place import Place
from gsp_deploy.retrieval.servers.store import REQUEST, Found, Point, Request, Store

SECONDS = 60
# pgvector's HNSW takes vectors up to this length; a search of longer ones is exact.
MOST_INDEXED = 2000
# Candidates of an HNSW search: pgvector's default and its limit. A search finds no more than these.
CANDIDATES, MOST_CANDIDATES = 40, 1000

_EXTENSION = "CREATE EXTENSION IF NOT EXISTS vector"
_STAMP = "SELECT to_regclass(%s) IS NOT NULL, obj_description(to_regclass(%s), 'pg_class')"
_TABLE = (
    "CREATE TABLE {table} (key uuid PRIMARY KEY, id text NOT NULL, "
    "embedding vector({dim}) NOT NULL)"
)
_COMMENT = "COMMENT ON TABLE {table} IS {stamp}"
_INDEX = "CREATE INDEX ON {table} USING hnsw (embedding vector_cosine_ops)"
_UPSERT = (
    "INSERT INTO {table} (key, id, embedding) VALUES (%s, %s, %s) "
    "ON CONFLICT (key) DO UPDATE SET id = EXCLUDED.id, embedding = EXCLUDED.embedding"
)
_WIDEN = "SELECT set_config('hnsw.ef_search', %s, false)"
_NEAREST = (
    "SELECT 1 - (embedding <=> %(query)s), id FROM {table} ORDER BY embedding <=> %(query)s "
    "LIMIT %(k)s"
)
_NAMES = "SELECT id FROM {table}"
_DELETE = "DELETE FROM {table} WHERE key = ANY(%s::uuid[])"
_COUNT = "SELECT count(*) FROM {table}"


class PgvectorStore:
    """One table of PostgreSQL."""

    errors: ClassVar[tuple[type[Exception], ...]] = (psycopg.Error, ValueError, OSError)
    request: ClassVar[Request] = REQUEST

    def __init__(self, place: Place) -> None:
        self._table = sql.Identifier(place.collection)
        self._connection = psycopg.connect(place.uri, connect_timeout=SECONDS, autocommit=True)
        self._is_registered = False

    def stamp(self) -> str | None:
        """Return the table's stamp; empty if it has none, None if there is no table."""
        name = self._table.as_string(None)
        ((exists, comment),) = self._connection.execute(_STAMP, (name, name)).fetchall()
        return str(comment or "") if exists else None

    def create(self, dim: int, stamp: str) -> None:
        """Make the table, for vectors of length `dim` and the cosine, with its stamp."""
        with self._connection.transaction():
            self._connection.execute(_EXTENSION)
            self._connection.execute(self._sql(_TABLE, dim=sql.Literal(dim)))
            self._connection.execute(self._sql(_COMMENT, stamp=sql.Literal(stamp)))
            if dim <= MOST_INDEXED:
                self._connection.execute(self._sql(_INDEX))

    def upsert(self, points: Sequence[Point]) -> None:
        """Write points, all or none, and replace those that have the same key."""
        self._register()
        with self._connection.transaction(), self._connection.cursor() as cursor:
            cursor.executemany(self._sql(_UPSERT), points)

    def nearest(self, vectors: np.ndarray, k: int) -> list[list[Found]]:
        """Return the `k` nearest points of each unit vector `(n, D)`, best first."""
        self._register()
        candidates = min(max(k, CANDIDATES), MOST_CANDIDATES)
        self._connection.execute(_WIDEN, (str(candidates),))
        nearest = self._sql(_NEAREST)
        return [
            [
                Found(float(cosine), str(name))
                for cosine, name in self._connection.execute(nearest, {"query": vector, "k": k})
            ]
            for vector in vectors
        ]

    def names(self) -> Iterator[list[str]]:
        """Yield the ids of all points, in batches."""
        connection = self._connection
        with connection.transaction(), connection.cursor(name="names") as cursor:
            cursor.execute(self._sql(_NAMES))
            while rows := cursor.fetchmany(self.request.points):
                yield [str(name) for (name,) in rows]

    def delete(self, keys: Sequence[str]) -> None:
        """Delete the points that have these keys."""
        self._connection.execute(self._sql(_DELETE), (list(keys),))

    def count(self) -> int:
        """Return the number of points."""
        ((count,),) = self._connection.execute(self._sql(_COUNT)).fetchall()
        return int(count)

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def _register(self) -> None:
        """Let the connection take arrays as vectors; the extension must be there by now."""
        if not self._is_registered:
            register_vector(self._connection)
            self._is_registered = True

    def _sql(self, text: str, **parts: Any) -> sql.Composed:
        return sql.SQL(text).format(table=self._table, **parts)


STORE: type[Store] = PgvectorStore
