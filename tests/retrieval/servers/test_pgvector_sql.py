"""The SQL of a table of pgvector, on a connection that records it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import nullcontext
from typing import Any

import numpy as np
import pytest

psycopg = pytest.importorskip("psycopg")
pytest.importorskip("pgvector")

from gsp_deploy.retrieval.servers import Place, pgvector  # noqa: E402
from gsp_deploy.retrieval.servers.store import Found, Point  # noqa: E402

PLACE = Place("pgvector", "postgresql://me@h/shop", 'p"s')
KEY = "6e9f6f0e-5d0b-5c59-9f53-0f9a1f0f7a12"


class _Recording:
    """A connection and its cursor: it keeps what it gets, and answers with `rows`."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, Any]] = []
        self.rows: list[tuple[Any, ...]] = []

    def execute(self, query: Any, given: Any = None) -> _Recording:
        text = query if isinstance(query, str) else query.as_string(None)
        self.asked.append((text, given))
        return self

    executemany = execute

    def fetchall(self) -> list[tuple[Any, ...]]:
        return self.rows

    def __iter__(self) -> Iterator[tuple[Any, ...]]:
        return iter(self.rows)

    def transaction(self) -> Any:
        self.asked.append(("BEGIN", None))
        return nullcontext()

    def cursor(self, **_: str) -> Any:
        return nullcontext(self)

    def fetchmany(self, count: int) -> list[tuple[Any, ...]]:
        rows, self.rows = self.rows[:count], self.rows[count:]
        return rows


@pytest.fixture
def connection(monkeypatch: pytest.MonkeyPatch) -> _Recording:
    recording = _Recording()
    monkeypatch.setattr(psycopg, "connect", lambda uri, **_: recording)
    monkeypatch.setattr(pgvector, "register_vector", lambda _: None)
    return recording


@pytest.mark.parametrize("dim", [2000, 2001])
def test_a_table_is_made_whole_with_its_stamp(connection: _Recording, dim: int) -> None:
    pgvector.PgvectorStore(PLACE).create(dim, "it's")
    made = [
        "BEGIN",
        "CREATE EXTENSION IF NOT EXISTS vector",
        f'CREATE TABLE "p""s" (key uuid PRIMARY KEY, id text NOT NULL, '
        f"embedding vector({dim}) NOT NULL)",
        "COMMENT ON TABLE \"p\"\"s\" IS 'it''s'",
        'CREATE INDEX ON "p""s" USING hnsw (embedding vector_cosine_ops)',
    ]
    assert [text for text, _ in connection.asked] == made[: 5 if dim == 2000 else 4]


@pytest.mark.parametrize(
    ("row", "stamp"), [((False, None), None), ((True, None), ""), ((True, "{}"), "{}")]
)
def test_the_stamp_is_the_comment(connection: _Recording, row: tuple, stamp: str | None) -> None:
    connection.rows = [row]
    assert pgvector.PgvectorStore(PLACE).stamp() == stamp
    ((text, given),) = connection.asked
    assert "obj_description(to_regclass(%s), 'pg_class')" in text
    assert given == ('"p""s"', '"p""s"')


def test_points_replace_those_of_the_same_key(connection: _Recording) -> None:
    points = [Point(KEY, "a.png", np.ones(2, np.float32))]
    pgvector.PgvectorStore(PLACE).upsert(points)
    assert connection.asked == [
        ("BEGIN", None),
        (
            'INSERT INTO "p""s" (key, id, embedding) VALUES (%s, %s, %s) '
            "ON CONFLICT (key) DO UPDATE SET id = EXCLUDED.id, embedding = EXCLUDED.embedding",
            points,
        ),
    ]


@pytest.mark.parametrize(("k", "candidates"), [(3, "40"), (100, "100"), (5000, "1000")])
def test_a_search_looks_at_enough_candidates(
    connection: _Recording, k: int, candidates: str
) -> None:
    connection.rows = [(0.5, "a.png")]
    vector = np.ones((1, 2), np.float32)
    assert pgvector.PgvectorStore(PLACE).nearest(vector, k) == [[Found(0.5, "a.png")]]
    widened, searched = connection.asked
    assert widened == ("SELECT set_config('hnsw.ef_search', %s, false)", (candidates,))
    assert searched[0] == (
        'SELECT 1 - (embedding <=> %(query)s), id FROM "p""s" '
        "ORDER BY embedding <=> %(query)s LIMIT %(k)s"
    )
    assert searched[1]["k"] == k


def test_ids_are_read_in_batches(connection: _Recording) -> None:
    connection.rows = [(f"{n}.png",) for n in range(1001)]
    batches = list(pgvector.PgvectorStore(PLACE).names())
    assert [len(batch) for batch in batches] == [1000, 1]
    assert (batches[1], connection.asked) == (
        ["1000.png"],
        [("BEGIN", None), ('SELECT id FROM "p""s"', None)],
    )


def test_points_are_deleted_by_their_keys(connection: _Recording) -> None:
    pgvector.PgvectorStore(PLACE).delete((KEY,))
    assert connection.asked == [('DELETE FROM "p""s" WHERE key = ANY(%s::uuid[])', ([KEY],))]
