"""Embed image files into one table on disk: ids and vectors, in the files' order."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from gsp_deploy.artifact.tensors import CERTIFICATES
from gsp_deploy.base.progress import Advance
from gsp_deploy.errors import DataError, UsageError
from gsp_deploy.images.ahead import decoding_threads
from gsp_deploy.images.files import ImageFailure, ImageReader
from gsp_deploy.images.reduction import refuse_unaveraged
from gsp_deploy.images.walking import PassedOver
from gsp_deploy.retrieval.pipeline import decoded, embedded
from gsp_deploy.retrieval.tables import table_files, writing_table
from gsp_deploy.runtime import EmbeddingSession
from gsp_deploy.sources import Sources


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
        session.info.refuse_without_transport("residual")
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


@dataclass(frozen=True)
class WrittenTable:
    """A table on disk: its files, the number of images, and the images that were left out.

    `failures` has the id and the reason of each image that was left out. `largest` holds the
    largest value of each further column, NaN if one of its values is NaN. `passed_over` counts the
    members of tar files that are no images.
    """

    files: tuple[Path, ...]
    images: int
    failures: tuple[tuple[str, str], ...]
    largest: Mapping[str, float]
    passed_over: PassedOver = field(default_factory=PassedOver)


def embed_sources(
    session: EmbeddingSession,
    sources: Sources,
    path: Path,
    *,
    batch: int = 32,
    strict: bool = False,
    columns: Sequence[str] = (),
    reduced_jpeg: bool = False,
    progress: Advance | None = None,
) -> WrittenTable:
    """Embed every readable image of some sources into one table, in order, in constant memory.

    Args:
        session: the model.
        sources: the images.
        path: the .npy, .npz or .parquet file; see `gsp_deploy.retrieval.tables`.
        batch: images per batch.
        strict: fail at the first image that cannot be read.
        columns: outputs with one number per image to keep beside the embedding.
        reduced_jpeg: decode large JPEG files at a fraction of their size; see `load_image`.
        progress: called with the number of images processed since the last call.

    Raises:
        UsageError: the model's images cannot be reduced.
        DataError: no image can be read; or, with `strict`, one cannot.
        SourceError: a source cannot be read.
        OutputError: the table cannot be written.
    """
    images, failures = 0, list[tuple[str, str]]()
    largest: dict[str, float] = {}
    members: list[PassedOver] = []
    records = (r for piece in sources for r in piece.records(report=members.append))
    spec = session.info.require_preprocessing()
    if reduced_jpeg:
        refuse_unaveraged(spec)
    pixels = decoded(records, spec, batch, decoding_threads(), reduced=reduced_jpeg)
    with writing_table(path, session.info.embedding_dim, columns) as rows:
        for found in embedded(session, pixels, batch, ("embedding", *columns), strict):
            failures += [(record.id, str(error)) for record, error in found.failures]
            if found.records:
                rows.add([record.id for record in found.records], found.outputs)
            for name in columns if found.records else ():
                here = float(found.outputs[name].max())
                largest[name] = max(here, largest.get(name, here), key=_nan_first)
            images += len(found.records)
            if progress is not None:
                progress(found.seen)
        if not images and failures:
            raise DataError(
                f"none of the {len(failures)} images can be read; the first: {failures[0][1]}"
            )
        if not images:
            raise sources.nothing_found(sum(members, PassedOver()))
    passed_over = sum(members, PassedOver())
    return WrittenTable(table_files(path), images, tuple(failures), largest, passed_over)


def _nan_first(value: float) -> float:
    return math.inf if math.isnan(value) else value
