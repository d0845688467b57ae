"""Embed image files into one table on disk: ids and vectors, in the files' order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from gsp_deploy.artifact.tensors import CERTIFICATES
from gsp_deploy.base.progress import Advance
from gsp_deploy.errors import UsageError
from gsp_deploy.images.files import ImageFailure, ImageReader
from gsp_deploy.retrieval.tables import table_files, writing_table
from gsp_deploy.runtime import EmbeddingSession


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


def write_table(table: EmbeddingTable, path: Path) -> tuple[Path, ...]:
    """Write the table and return the files written; see `gsp_deploy.retrieval.tables`.

    Raises:
        UsageError: the format is unknown, or cannot contain the table's ids or columns.
        OutputError: the table cannot be written.
    """
    with writing_table(path, table.embeddings.shape[1], tuple(table.columns)) as rows:
        rows.add(table.ids, {"embedding": table.embeddings, **table.columns})
    return table_files(path)
