"""Build an index: exact, or approximate with its recall measured against the exact one."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, get_args

import faiss
import numpy as np

from gsp_deploy.base.choices import GalleryKind
from gsp_deploy.errors import UsageError
from gsp_deploy.images.files import ImageReader
from gsp_deploy.retrieval.embedding import embed_files
from gsp_deploy.retrieval.gallery.index import Gallery, unit_length
from gsp_deploy.retrieval.identity import identity_of
from gsp_deploy.runtime import EmbeddingSession

KINDS: tuple[str, ...] = get_args(GalleryKind)
# Links of each vector in the graph, and candidates kept while building and searching: larger
# values find more of the true neighbours and take longer.
HNSW_LINKS = 32
HNSW_BUILD, HNSW_SEARCH = 200, 128
# faiss warns if a cell has fewer than 39 training vectors.
IVF_VECTORS_A_CELL = 39
# A search looks into one eighth of the cells.
IVF_SHARE_PROBED = 8
RECALL_AT = 10
RECALL_QUERIES = 200


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
        kind: `flat` is exact; `hnsw` (a graph) and `ivf` (cells) are approximate, for galleries of
            100,000 images and more, because flat then takes tens of milliseconds per query.
        progress: called with the number of files processed since the last call.

    Raises:
        UsageError: the kind is unknown, or there are too few images for it.
        DataError: no image can be read.
    """
    check_kind(kind)
    identity = identity_of(session)
    table = embed_files(session, reader, progress)
    vectors = unit_length(table.embeddings)
    index = _index(kind, vectors)
    return Gallery(
        index=index,
        files=table.ids,
        identity=identity,
        kind=kind,
        recall=None if kind == "flat" else _recall(index, vectors),
        failures=table.failures,
    )


def check_kind(kind: str) -> None:
    """Raise `UsageError` for an unknown kind, so that a command can check before it works."""
    if kind not in KINDS:
        raise UsageError(f"kind must be one of {', '.join(KINDS)}, got {kind!r}")


def _index(kind: GalleryKind, vectors: np.ndarray) -> Any:
    index = {"flat": _flat, "hnsw": _hnsw, "ivf": _ivf}[kind](*vectors.shape)
    index.train(vectors)
    index.add(vectors)
    return index


def _flat(count: int, dim: int) -> Any:
    return faiss.IndexFlatIP(dim)


def _hnsw(count: int, dim: int) -> Any:
    index = faiss.IndexHNSWFlat(dim, HNSW_LINKS, faiss.METRIC_INNER_PRODUCT)
    index.hnsw.efConstruction, index.hnsw.efSearch = HNSW_BUILD, HNSW_SEARCH
    return index


def _ivf(count: int, dim: int) -> Any:
    cells = min(round(4 * math.sqrt(count)), count // IVF_VECTORS_A_CELL)
    if cells < 2:
        raise UsageError(
            f"an ivf index needs at least {2 * IVF_VECTORS_A_CELL} images, got {count}; "
            "take --kind flat"
        )
    index = faiss.IndexIVFFlat(faiss.IndexFlatIP(dim), dim, cells, faiss.METRIC_INNER_PRODUCT)
    index.nprobe = max(1, cells // IVF_SHARE_PROBED)
    return index


def _recall(index: Any, vectors: np.ndarray) -> float:
    """Return the share of the true nearest neighbours that the index finds, over a sample."""
    chosen = np.linspace(0, len(vectors) - 1, min(RECALL_QUERIES, len(vectors))).astype(np.int64)
    exact, k = _flat(*vectors.shape), min(RECALL_AT, len(vectors))
    exact.add(vectors)
    wanted, found = (i.search(vectors[chosen], k)[1] for i in (exact, index))
    shares = [len(np.intersect1d(w, f)) / k for w, f in zip(wanted, found, strict=True)]
    return float(np.mean(shares))
