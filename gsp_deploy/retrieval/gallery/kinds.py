"""Make an empty index of each kind: exact, a graph, or cells."""

from __future__ import annotations

import math
from typing import Any, get_args

import faiss

from gsp_deploy.base.choices import GalleryKind
from gsp_deploy.errors import UsageError

KINDS: tuple[str, ...] = get_args(GalleryKind)
# Links of each vector in the graph, and candidates kept while building and searching: larger
# values find more of the true neighbours and take longer.
HNSW_LINKS = 32
HNSW_BUILD, HNSW_SEARCH = 200, 128
# faiss warns if a cell has fewer than 39 training vectors.
IVF_VECTORS_A_CELL = 39
# A search looks into one eighth of the cells.
IVF_SHARE_PROBED = 8


def check_kind(kind: str) -> None:
    """Raise `UsageError` for an unknown kind, so that a command can check before it works."""
    if kind not in KINDS:
        raise UsageError(f"kind must be one of {', '.join(KINDS)}, got {kind!r}")


def empty_index(kind: GalleryKind, count: int, dim: int) -> Any:
    """Return an index for about `count` unit vectors of length `dim`, by inner product.

    Raises:
        UsageError: `count` is too small for the kind.
    """
    return {"flat": _flat, "hnsw": _hnsw, "ivf": _ivf}[kind](count, dim)


def _flat(count: int, dim: int) -> Any:
    return faiss.IndexFlatIP(dim)


def _hnsw(count: int, dim: int) -> Any:
    index = faiss.IndexHNSWFlat(dim, HNSW_LINKS, faiss.METRIC_INNER_PRODUCT)
    index.hnsw.efConstruction, index.hnsw.efSearch = HNSW_BUILD, HNSW_SEARCH
    return index


def _ivf(count: int, dim: int) -> Any:
    cells = _cells("ivf", count)
    index = faiss.IndexIVFFlat(faiss.IndexFlatIP(dim), dim, cells, faiss.METRIC_INNER_PRODUCT)
    index.nprobe = max(1, cells // IVF_SHARE_PROBED)
    return index


def _cells(kind: str, count: int) -> int:
    cells = min(round(4 * math.sqrt(count)), count // IVF_VECTORS_A_CELL)
    if cells < 2:
        raise UsageError(
            f"an {kind} index needs at least {2 * IVF_VECTORS_A_CELL} images besides those held "
            f"out to measure it, got {count}; take --kind flat"
        )
    return cells
