"""Embedding image files into one table on disk: ids and vectors, in the files' order."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from gsp_deploy.base.files import replacing, replacing_together
from gsp_deploy.errors import MissingCapabilityError, UsageError, brief
from gsp_deploy.images.files import ImageFailure, ImageReader
from gsp_deploy.runtime import EmbeddingSession

TABLE_SUFFIXES = (".npy", ".npz", ".parquet")


@dataclass(frozen=True)
class EmbeddingTable:
    """Embeddings float32 `(n, D)`, the files they come from, and the files left out."""

    ids: tuple[str, ...]
    embeddings: np.ndarray
    failures: tuple[ImageFailure, ...] = ()


def embed_files(
    session: EmbeddingSession, reader: ImageReader, progress: Callable[[int], None] | None = None
) -> EmbeddingTable:
    """Embed every readable image of the reader, in order.

    Args:
        session: the model.
        reader: the images, decoded to the model's size.
        progress: called with the number of files dealt with since the last call.
    """
    ids: list[str] = []
    found = [np.zeros((0, session.info.embedding_dim), np.float32)]
    done = 0
    for batch in reader:
        found.append(session.embed(batch.images))
        ids += batch.ids
        if progress is not None:
            progress(len(ids) + len(reader.failures) - done)
            done = len(ids) + len(reader.failures)
    return EmbeddingTable(tuple(ids), np.concatenate(found), tuple(reader.failures))


def check_table_path(path: Path) -> None:
    """Raise `UsageError` for a table format that is not known, before any work is done."""
    if path.suffix not in TABLE_SUFFIXES:
        raise UsageError(
            f"{path}: expected an output ending in {', '.join(TABLE_SUFFIXES)}, "
            f"got {path.suffix or 'no suffix'}"
        )
    if path.suffix == ".parquet":
        _parquet()


def write_table(table: EmbeddingTable, path: Path) -> tuple[Path, ...]:
    """Write the table and return the files written.

    `.npy` holds the embeddings, with the ids beside it in `<name>.ids.txt`, a line each; `.npz`
    holds both as `ids` and `embeddings`; `.parquet` has the columns `id` and `embedding`.
    """
    check_table_path(path)
    if path.suffix == ".parquet":
        _write_parquet(table, path)
        return (path,)
    if path.suffix == ".npz":
        with replacing(path) as temporary, open(temporary, "wb") as stream:
            np.savez(stream, ids=np.asarray(table.ids, dtype=str), embeddings=table.embeddings)
        return (path,)
    ids = ids_path(path)
    with replacing_together(ids, path) as (fresh_ids, fresh):
        _write_ids(table.ids, fresh_ids)
        with open(fresh, "wb") as stream:
            np.save(stream, table.embeddings)
    return path, ids


def ids_path(path: Path) -> Path:
    """Return where the ids of a `.npy` table stand."""
    return path.with_suffix(".ids.txt")


def _write_ids(ids: tuple[str, ...], path: Path) -> None:
    """Write a line each; names that are not UTF-8 keep their bytes."""
    if broken := next((name for name in ids if len(name.splitlines()) > 1), None):
        raise UsageError(
            f"{brief(broken)} has a line break, which a table of one id a line cannot hold; "
            "write .npz or .parquet"
        )
    text = "".join(f"{name}\n" for name in ids)
    path.write_text(text, encoding="utf-8", errors="surrogateescape")


def _write_parquet(table: EmbeddingTable, path: Path) -> None:
    arrow, parquet = _parquet()
    names = [os.fsencode(name).decode(errors="replace") for name in table.ids]  # it is all UTF-8
    flat = arrow.array(table.embeddings.ravel())
    vectors = arrow.FixedSizeListArray.from_arrays(flat, table.embeddings.shape[1])
    with replacing(path) as temporary:
        parquet.write_table(
            arrow.table({"id": arrow.array(names, arrow.string()), "embedding": vectors}),
            temporary,
        )


def _parquet() -> tuple[Any, Any]:
    try:
        import pyarrow
        import pyarrow.parquet
    except ModuleNotFoundError as error:
        raise MissingCapabilityError(
            "writing .parquet needs pyarrow: pip install pyarrow, or write .npy"
        ) from error
    return pyarrow, pyarrow.parquet
