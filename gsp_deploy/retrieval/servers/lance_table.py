"""The columns of a table of LanceDB."""

from __future__ import annotations

from collections.abc import Iterable

import pyarrow as pa

KEY, ID, VECTOR = "key", "id", "embedding"
DISTANCE, QUERY = "_distance", "query_index"  # columns of a search's result
# Lance compares by this key what two runs insert at the same time.
_IS_KEY = {b"lance-schema:unenforced-primary-key:position": b"1"}


def columns(dim: int) -> pa.Schema:
    """Return the columns of a table for vectors of length `dim`."""
    return pa.schema(
        [
            pa.field(KEY, pa.string(), False, _IS_KEY),
            pa.field(ID, pa.string(), False),
            pa.field(VECTOR, pa.list_(pa.float32(), dim), False),
        ]
    )


def key_in(keys: Iterable[str]) -> str:
    """Return the SQL that is true for rows with one of some keys, which are UUIDs."""
    return f"{KEY} IN ({', '.join(map(repr, keys))})"
