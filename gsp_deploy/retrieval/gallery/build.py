"""Build an index: exact, or approximate with its recall measured against the exact one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from gsp_deploy.base.choices import GalleryKind
from gsp_deploy.base.progress import Advance
from gsp_deploy.errors import UsageError
from gsp_deploy.images.files import ImageReader
from gsp_deploy.retrieval.embedding import embed_files
from gsp_deploy.retrieval.gallery.index import Gallery, unit_length
from gsp_deploy.retrieval.gallery.kinds import apply_setting, check_kind, empty_index
from gsp_deploy.retrieval.gallery.recall import Truth, measured_recall
from gsp_deploy.retrieval.gallery.trade import choose_setting
from gsp_deploy.retrieval.identity import ModelIdentity, identity_of
from gsp_deploy.retrieval.recall import FEWEST, held_out
from gsp_deploy.retrieval.trade import Setting
from gsp_deploy.runtime import EmbeddingSession


def build_gallery(
    session: EmbeddingSession,
    reader: ImageReader,
    kind: GalleryKind = "flat",
    progress: Advance | None = None,
    recall: float | None = None,
) -> Gallery:
    """Embed every readable image and index the embeddings by their cosine.

    Args:
        session: the model.
        reader: the images, of the model's size.
        kind: see `gallery_of`.
        progress: called with the number of files processed since the last call.
        recall: see `gallery_of`.

    Raises:
        UsageError: the kind is unknown, or there are too few images for it.
        DataError: no image can be read.
        GateError: no setting of the index reaches the recall.
    """
    check_kind(kind, recall)
    identity = identity_of(session, reduced_jpeg=reader.reduced)
    table = embed_files(session, reader, progress)
    gallery = gallery_of(table.ids, table.embeddings, identity, kind, recall)
    return replace(gallery, failures=table.failures)


def gallery_of(
    ids: Sequence[str],
    embeddings: np.ndarray,
    identity: ModelIdentity,
    kind: GalleryKind = "flat",
    recall: float | None = None,
    setting: Setting | None = None,
) -> Gallery:
    """Index embeddings `(n, D)` by their cosine.

    Args:
        ids: the images' files, or other names.
        embeddings: float32, from the model of `identity`.
        identity: the model.
        kind: `flat` is exact; `hnsw` (a graph), `ivf` (cells) and `ivf-pq` (cells with compressed
            embeddings, the best results compared again in float16) are approximate, for galleries
            of 100,000 images and more, because flat then takes tens of milliseconds per query.
        recall: the recall@10 that the search should reach, in (0, 1]; the fastest setting that
            reaches it is chosen on half of the held-out queries, and measured on the other half.
            None leaves the settings as they are.
        setting: how the index should search, if no recall is wanted; None takes the kind's default.

    Raises:
        UsageError: the kind is unknown, or there are too few images for it.
        GateError: no setting of the index reaches the recall.
    """
    check_kind(kind, recall)
    vectors = unit_length(embeddings)
    if kind == "flat":
        return Gallery(_filled(empty_index(kind, *vectors.shape), vectors), tuple(ids), identity)
    if len(vectors) < FEWEST:
        raise UsageError(
            f"an {kind} index needs at least {FEWEST} images, got {len(vectors)}; take --kind flat"
        )
    built, held = held_out(len(vectors))
    inside, outside = vectors[built], vectors[held]
    index = _filled(empty_index(kind, *inside.shape), inside)
    apply_setting(index, setting or {})
    trade, queries = None, outside
    if recall is not None:
        half = len(outside) // 2
        trade = choose_setting(kind, index, Truth.of(inside, outside[:half]), recall)
        queries = outside[half:]
    measured = measured_recall(index, Truth.of(inside, queries))
    index.add(outside)
    names = tuple(ids[row] for row in (*built, *held))
    return Gallery(index, names, identity, kind, measured, trade=trade)


def _filled(index: Any, vectors: np.ndarray) -> Any:
    index.train(vectors)
    index.add(vectors)
    return index
