"""Build an index: exact, or approximate with its recall measured against the exact one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from gsp_deploy.base.choices import GalleryKind
from gsp_deploy.errors import UsageError
from gsp_deploy.images.files import ImageReader
from gsp_deploy.retrieval.embedding import embed_files
from gsp_deploy.retrieval.gallery.index import Gallery, unit_length
from gsp_deploy.retrieval.gallery.kinds import check_kind, empty_index
from gsp_deploy.retrieval.gallery.recall import held_out, measured_recall
from gsp_deploy.retrieval.identity import ModelIdentity, identity_of
from gsp_deploy.runtime import EmbeddingSession


def build_gallery(
    session: EmbeddingSession,
    reader: ImageReader,
    kind: GalleryKind = "flat",
    progress: Callable[[int], None] | None = None,
) -> Gallery:
    """Embed every readable image and index the embeddings by their cosine.

    Args:
        session: the model.
        reader: the images, of the model's size.
        kind: see `gallery_of`.
        progress: called with the number of files processed since the last call.

    Raises:
        UsageError: the kind is unknown, or there are too few images for it.
        DataError: no image can be read.
    """
    check_kind(kind)
    identity = identity_of(session)
    table = embed_files(session, reader, progress)
    gallery = gallery_of(table.ids, table.embeddings, identity, kind)
    return replace(gallery, failures=table.failures)


def gallery_of(
    ids: Sequence[str], embeddings: np.ndarray, identity: ModelIdentity, kind: GalleryKind = "flat"
) -> Gallery:
    """Index embeddings `(n, D)` by their cosine.

    Args:
        ids: the images' files, or other names.
        embeddings: float32, from the model of `identity`.
        identity: the model.
        kind: `flat` is exact; `hnsw` (a graph) and `ivf` (cells) are approximate, for galleries of
            100,000 images and more, because flat then takes tens of milliseconds per query.

    Raises:
        UsageError: the kind is unknown, or there are too few images for it.
    """
    check_kind(kind)
    vectors = unit_length(embeddings)
    if kind == "flat":
        return Gallery(_filled(empty_index(kind, *vectors.shape), vectors), tuple(ids), identity)
    if len(vectors) < 2:
        raise UsageError(f"an {kind} index needs at least 2 images, got 1; take --kind flat")
    built, held = held_out(len(vectors))
    inside, outside = vectors[built], vectors[held]
    index = _filled(empty_index(kind, *inside.shape), inside)
    recall = measured_recall(index, inside, outside)
    index.add(outside)
    names = tuple(ids[row] for row in (*built, *held))
    return Gallery(index, names, identity, kind, recall)


def _filled(index: Any, vectors: np.ndarray) -> Any:
    index.train(vectors)
    index.add(vectors)
    return index
