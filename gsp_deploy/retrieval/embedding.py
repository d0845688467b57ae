"""Embed image files into one table on disk: ids and vectors, in the files' order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from gsp_deploy.artifact.tensors import CERTIFICATES
from gsp_deploy.base.file_names import as_text
from gsp_deploy.base.files import replacing, replacing_together
from gsp_deploy.base.origin import MARK
from gsp_deploy.base.progress import Advance
from gsp_deploy.errors import MissingCapabilityError, UsageError, brief
from gsp_deploy.images.files import ImageFailure, ImageReader
from gsp_deploy.runtime import EmbeddingSession

TABLE_SUFFIXES = (".npy", ".npz", ".parquet")


@dataclass(frozen=True)
class EmbeddingTable:
    """Embeddings float32 `(n, D)`, the files of the images, and the files that were left out.

    `columns` holds one further number per image, `(n,)` float32, by name.
    """

    ids: tuple[str, ...]
    embeddings: np.ndarray
    failures: tuple[ImageFailure, ...] = ()
    columns: Mapping[str, np.ndarray] = field(default_factory=dict)


def embed_files(
    session: EmbeddingSession,
    reader: ImageReader,
    progress: Advance | None = None,
    columns: Sequence[str] = (),
) -> EmbeddingTable:
    """Embed every readable image of the reader, in order.

    Args:
        session: the model.
        reader: the images, decoded to the model's size.
        progress: called with the number of files processed since the last call.
        columns: outputs with one number per image to keep beside the embedding; see
            `certificates_of`.
    """
    ids: list[str] = []
    found: dict[str, list[np.ndarray]] = {}
    found["embedding"] = [np.zeros((0, session.info.embedding_dim), np.float32)]
    found |= {name: [np.zeros(0, np.float32)] for name in columns}
    done = 0
    for batch in reader:
        for name, values in session.run(batch.images, tuple(found)).items():
            found[name].append(values)
        ids += batch.ids
        if progress is not None:
            progress(len(ids) + len(reader.failures) - done)
            done = len(ids) + len(reader.failures)
    joined = {name: np.concatenate(parts) for name, parts in found.items()}
    embeddings = joined.pop("embedding")
    return EmbeddingTable(tuple(ids), embeddings, tuple(reader.failures), joined)


def certificates_of(session: EmbeddingSession) -> tuple[str, ...]:
    """Return the names of the outputs that report the solver's error, one number per image.

    Raises:
        UsageError: the model has no such output.
    """
    names = tuple(name for name in CERTIFICATES if name in session.info.outputs)
    if not names:
        raise UsageError(
            f"{session.info.path} has no output residual; export it with --also residual, or "
            "embed without --also"
        )
    return names


def check_table_path(path: Path, with_columns: bool = False) -> None:
    """Raise `UsageError` for an unknown table format, so that a command can check before it works.

    `.npy` contains only embeddings, so it cannot have further columns.
    """
    if path.suffix not in TABLE_SUFFIXES:
        raise UsageError(
            f"{path}: expected an output ending in {', '.join(TABLE_SUFFIXES)}, "
            f"got {path.suffix or 'no suffix'}"
        )
    if with_columns and path.suffix == ".npy":
        raise UsageError(
            f"{path}: a .npy contains only the embeddings; write .npz or .parquet, which have a "
            "column for the residual"
        )
    if path.suffix == ".parquet":
        _parquet()


def write_table(table: EmbeddingTable, path: Path) -> tuple[Path, ...]:
    """Write the table and return the files written.

    `.npy` contains the embeddings, with the ids beside it in `<name>.ids.txt`, one per line;
    `.npz` contains both as `ids` and `embeddings`; `.parquet` has the columns `id` and
    `embedding`. The last two also contain the table's further columns under their names. Parquet
    holds names that are not UTF-8 as `gsp_deploy.base.file_names.as_text` writes them.
    """
    check_table_path(path, bool(table.columns))
    if path.suffix == ".parquet":
        _write_parquet(table, path)
        return (path,)
    if path.suffix == ".npz":
        with replacing(path) as temporary, open(temporary, "wb") as stream:
            arrays: dict[str, Any] = {**table.columns, "embeddings": table.embeddings}
            np.savez(stream, ids=np.asarray(table.ids, dtype=str), **arrays)
        return (path,)
    beside = ids_path(path)
    with replacing_together(beside, path) as (fresh_ids, fresh):
        _write_ids(table.ids, fresh_ids)
        with open(fresh, "wb") as stream:
            np.save(stream, table.embeddings)
    return path, beside


def ids_path(path: Path) -> Path:
    """Return the path of a `.npy` table's ids.

    >>> ids_path(Path("table.npy")).name
    'table.ids.txt'
    """
    return path.with_suffix(".ids.txt")


def _write_ids(ids: tuple[str, ...], path: Path) -> None:
    """Write one id per line; a name that is not UTF-8 keeps its bytes."""
    if broken := next((name for name in ids if len(name.splitlines()) > 1), None):
        raise UsageError(
            f"{brief(broken)} has a line break, so a list with one id per line cannot contain it; "
            "write .npz or .parquet"
        )
    text = "".join(f"{name}\n" for name in ids)
    path.write_text(text, encoding="utf-8", errors="surrogateescape")


def _write_parquet(table: EmbeddingTable, path: Path) -> None:
    arrow, parquet = _parquet()
    names = [as_text(name) for name in table.ids]
    flat = arrow.array(table.embeddings.ravel())
    vectors = arrow.FixedSizeListArray.from_arrays(flat, table.embeddings.shape[1])
    columns = {"id": arrow.array(names, arrow.string()), "embedding": vectors}
    columns |= {name: arrow.array(values) for name, values in table.columns.items()}
    with replacing(path) as temporary:
        made = arrow.table(columns, metadata={"gsp_deploy": MARK})
        parquet.write_table(made, temporary)


def _parquet() -> tuple[Any, Any]:
    try:
        import pyarrow
        import pyarrow.parquet
    except ModuleNotFoundError as error:
        raise MissingCapabilityError(
            "writing .parquet needs pyarrow: pip install pyarrow, or write .npy"
        ) from error
    return pyarrow, pyarrow.parquet
