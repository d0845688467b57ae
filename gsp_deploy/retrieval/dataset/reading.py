"""Read stored embeddings batch by batch: a data set's folder, or a .npy, .npz or .parquet file."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as arrow
import pyarrow.parquet as parquet
from pyarrow import types

from gsp_deploy.base.inputs import open_regular
from gsp_deploy.errors import DataError, UsageError, brief, reason_of
from gsp_deploy.retrieval.dataset.arrays import open_array, read_ids
from gsp_deploy.retrieval.dataset.manifest import DatasetManifest, read_manifest
from gsp_deploy.retrieval.dataset.parts import ROW_GROUP, floats, read_footer
from gsp_deploy.retrieval.identity import ModelIdentity
from gsp_deploy.retrieval.stored import MANIFEST, SUFFIXES
from gsp_deploy.retrieval.tables import ids_path

PARQUET = ".parquet"


@dataclass(frozen=True, eq=False)
class StoredBatch:
    """Some stored embeddings: their ids, and float32 `(n, D)`."""

    ids: tuple[str, ...]
    embeddings: np.ndarray

    def __len__(self) -> int:
        return len(self.ids)


@dataclass(frozen=True)
class StoredEmbeddings:
    """Embeddings on disk that you read in batches, in the order in which they were written.

    Attributes:
        path: the folder or the file.
        manifest: the data set's manifest; None for a single file.
    """

    path: Path
    manifest: DatasetManifest | None

    @property
    def identity(self) -> ModelIdentity | None:
        """The model of the embeddings; None for a single file, which does not record it."""
        return None if self.manifest is None else self.manifest.settings.model

    def __iter__(self) -> Iterator[StoredBatch]:
        """Yield batches of at most 8,192 embeddings.

        Raises:
            DataError: a part is missing, damaged, or not the one that the manifest lists.
        """
        if self.manifest is not None:
            for part in self.manifest.parts:
                path = self.path / part.name
                if read_footer(path)[0] != part:
                    raise DataError(
                        f"{path}: not the part that {MANIFEST} lists; run the same embed command "
                        "again"
                    )
                yield from _parquet_batches(path)
        elif self.path.suffix == PARQUET:
            yield from _parquet_batches(self.path)
        else:
            yield from _array_batches(self.path)

    def read(self) -> StoredBatch:
        """Return all embeddings at once."""
        batches = list(self)
        if not batches:
            raise DataError(f"{self.path} has no embeddings")
        ids = tuple(name for batch in batches for name in batch.ids)
        return StoredBatch(ids, np.concatenate([batch.embeddings for batch in batches]))


def open_embeddings(path: str | Path) -> StoredEmbeddings:
    """Open the embeddings that `embed` wrote.

    Args:
        path: a data set's folder, or a file ending in .npy, .npz or .parquet.

    Raises:
        UsageError: the path is neither, or the folder's run is not finished.
        DataError: the manifest is damaged.
    """
    path = Path(path)
    if path.is_dir():
        return StoredEmbeddings(path, read_manifest(path))
    if path.suffix not in SUFFIXES:
        raise UsageError(
            f"{path}: expected embeddings: a folder that embed wrote, or a file ending in .npy, "
            ".npz or .parquet"
        )
    return StoredEmbeddings(path, None)


def _parquet_batches(path: Path) -> Iterator[StoredBatch]:
    try:
        with open_regular(path) as stream:
            file = parquet.ParquetFile(stream, page_checksum_verification=True)
            columns = _columns_of(file.schema_arrow)
            for group in range(file.num_row_groups):
                table = file.read_row_group(group, columns=columns)
                for start in range(0, len(table), ROW_GROUP):
                    rows = table.slice(start, ROW_GROUP)
                    yield StoredBatch(_ids(rows), floats(rows))
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: cannot be read ({reason_of(error)})") from error


def _columns_of(schema: arrow.Schema) -> list[str]:
    """Return the columns to read, or raise `ValueError` if one is missing or of another type."""
    columns = [name for name in _COLUMNS if name in schema.names or name != "scale"]
    for name in columns:
        expected, fits = _COLUMNS[name]
        if schema.names.count(name) != 1:
            raise ValueError(f"expected one column {name!r}, got {brief(', '.join(schema.names))}")
        if not fits(schema.field(name).type):
            raise ValueError(
                f"expected column {name!r} to be {expected}, got {schema.field(name).type}"
            )
    return columns


def _are_ids(kind: arrow.DataType) -> bool:
    return types.is_string(kind) or types.is_large_string(kind) or types.is_integer(kind)


def _are_vectors(kind: arrow.DataType) -> bool:
    return types.is_fixed_size_list(kind) and (
        types.is_floating(kind.value_type) or types.is_integer(kind.value_type)
    )


# The columns of embeddings, each with what it must be; only `scale` may be missing.
_COLUMNS: dict[str, tuple[str, Callable[[arrow.DataType], bool]]] = {
    "id": ("text", _are_ids),
    "embedding": ("lists of numbers of one length", _are_vectors),
    "scale": ("numbers", types.is_floating),
}


def _ids(rows: arrow.Table) -> tuple[str, ...]:
    if rows["id"].null_count:
        raise ValueError("expected an id in each row, got a row without one")
    return tuple(map(str, rows["id"].to_pylist()))


def _array_batches(path: Path) -> Iterator[StoredBatch]:
    embeddings, ids = open_array(path), read_ids(path)
    if len(ids) != len(embeddings):
        raise DataError(
            f"{path} has {len(embeddings):,} embeddings, and {ids_path(path).name} has "
            f"{len(ids):,} ids; expected one id per embedding"
        )
    for start in range(0, len(ids), ROW_GROUP):
        with np.errstate(over="ignore"):  # too large a number becomes infinity, refused later
            rows = np.asarray(embeddings[start : start + ROW_GROUP], dtype=np.float32)
        yield StoredBatch(tuple(ids[start : start + ROW_GROUP]), rows)
