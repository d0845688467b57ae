"""Read stored embeddings batch by batch: a data set's folder, or a .npy, .npz or .parquet file."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as parquet

from gsp_deploy.base.inputs import open_regular
from gsp_deploy.errors import DataError, UsageError, reason_of
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


def _parquet_batches(path: Path, wanted: Sequence[str] = ("id", "embedding")) -> Iterator[Any]:
    try:
        with open_regular(path) as stream:
            file = parquet.ParquetFile(stream, page_checksum_verification=True)
            names = file.schema_arrow.names
            if missing := [name for name in wanted if name not in names]:
                raise DataError(f"{path}: expected a column {missing[0]!r}, got {', '.join(names)}")
            columns = [name for name in (*wanted, "scale") if name in names]
            for group in range(file.num_row_groups):
                table = file.read_row_group(group, columns=columns)
                for start in range(0, len(table), ROW_GROUP):
                    rows = table.slice(start, ROW_GROUP)
                    yield StoredBatch(tuple(map(str, rows["id"].to_pylist())), floats(rows))
    except (OSError, ValueError, AttributeError) as error:
        raise DataError(f"{path}: cannot be read ({reason_of(error)})") from error


def _array_batches(path: Path) -> Iterator[StoredBatch]:
    embeddings, ids = open_array(path), read_ids(path)
    if len(ids) != len(embeddings):
        raise DataError(
            f"{path} has {len(embeddings):,} embeddings, and {ids_path(path).name} has "
            f"{len(ids):,} ids; expected one id per embedding"
        )
    for start in range(0, len(ids), ROW_GROUP):
        rows = np.asarray(embeddings[start : start + ROW_GROUP], dtype=np.float32)
        yield StoredBatch(tuple(ids[start : start + ROW_GROUP]), rows)
