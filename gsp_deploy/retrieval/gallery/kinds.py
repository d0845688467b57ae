"""Make an empty index of each kind, and list the settings of its search."""

from __future__ import annotations

import math
from typing import Any, get_args

import faiss

from gsp_deploy.base.choices import GalleryKind
from gsp_deploy.errors import UsageError
from gsp_deploy.retrieval.trade import REFINEMENTS, Setting, check_recall

KINDS: tuple[str, ...] = get_args(GalleryKind)
# Links of each vector in the graph, and candidates kept while building and searching: larger
# values find more of the true neighbours and take longer.
HNSW_LINKS = 32
HNSW_BUILD, HNSW_SEARCH = 200, 128
# faiss warns if a cell has fewer than 39 training vectors.
IVF_VECTORS_A_CELL = 39
# A search looks into one eighth of the cells.
IVF_SHARE_PROBED = 8
# One code of 8 bits for 4 entries of an embedding; faiss warns if it learns the 256 values of a
# code from fewer than 39 vectors each. A search compares the codes, and compares the best REFINED
# times the wanted number of results again, with float16 copies of the embeddings.
PQ_BITS, PQ_ENTRIES = 8, 4
PQ_VECTORS = IVF_VECTORS_A_CELL << PQ_BITS
REFINED = 8

_CANDIDATES = (16, 32, 64, 128, 256, 512, 1024)


def check_kind(kind: str, recall: float | None = None) -> None:
    """Check a kind and the recall wanted of it, so that a command can check before it works.

    Raises:
        UsageError: the kind is unknown, the recall is not in (0, 1], or flat is to reach it.
    """
    if kind not in KINDS:
        raise UsageError(f"kind must be one of {', '.join(KINDS)}, got {kind!r}")
    check_recall(kind, recall)


def empty_index(kind: GalleryKind, count: int, dim: int) -> Any:
    """Return an index for about `count` unit vectors of length `dim`, by inner product.

    Raises:
        UsageError: `count` is too small for the kind.
    """
    return {"flat": _flat, "hnsw": _hnsw, "ivf": _ivf, "ivf-pq": _ivf_pq}[kind](count, dim)


def settings_of(kind: GalleryKind, index: Any) -> list[list[Setting]]:
    """Return rows of settings that `--recall` chooses from; none for an exact index.

    In each row the recall and the time grow from one setting to the next.
    """
    if kind == "flat":
        return []
    if kind == "hnsw":
        return [[{"efSearch": candidates} for candidates in _CANDIDATES]]
    cells = faiss.extract_index_ivf(index).nlist
    probes = sorted({*(1 << bit for bit in range(cells.bit_length())), cells})
    if kind == "ivf":
        return [[{"nprobe": n} for n in probes]]
    return [[{"nprobe": n, "k_factor_rf": factor} for n in probes] for factor in REFINEMENTS]


def setting_of(kind: GalleryKind, index: Any) -> Setting:
    """Return the present setting of an index's search; empty for an exact one."""
    if kind == "flat":
        return {}
    if kind == "hnsw":
        return {"efSearch": index.hnsw.efSearch}
    probes = {"nprobe": faiss.extract_index_ivf(index).nprobe}
    return probes if kind == "ivf" else {**probes, "k_factor_rf": round(index.k_factor)}


def apply_setting(index: Any, setting: Setting) -> None:
    """Change how an index searches from now on; faiss stores it with the index."""
    for name, value in setting.items():
        faiss.ParameterSpace().set_index_parameter(index, name, value)


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


def _ivf_pq(count: int, dim: int) -> Any:
    if count < PQ_VECTORS:
        raise UsageError(
            f"an ivf-pq index needs at least {PQ_VECTORS:,} images besides those held out to "
            f"measure it, got {count:,}; take --kind flat, which is fast for so few"
        )
    metric, quantizer = faiss.METRIC_INNER_PRODUCT, faiss.IndexFlatIP(dim)
    codes = faiss.IndexIVFPQ(quantizer, dim, _cells("ivf-pq", count), _codes(dim), PQ_BITS, metric)
    copies = faiss.IndexScalarQuantizer(dim, faiss.ScalarQuantizer.QT_fp16, metric)
    index = faiss.IndexRefine(codes, copies)
    codes.nprobe, index.k_factor = max(1, codes.nlist // IVF_SHARE_PROBED), REFINED
    _own(codes, quantizer, "own_fields")
    _own(index, codes, "own_fields")
    _own(index, copies, "own_refine_index")
    return index


def _own(owner: Any, part: Any, field: str) -> None:
    """Let an index free its part: faiss keeps plain pointers, and Python would free it too."""
    part.this.disown()
    setattr(owner, field, True)


def _codes(dim: int) -> int:
    """Return the number of codes: the largest divisor of `dim` with 4 entries or more a code."""
    return next(n for n in range(max(1, dim // PQ_ENTRIES), 0, -1) if dim % n == 0)


def _cells(kind: str, count: int) -> int:
    cells = min(round(4 * math.sqrt(count)), count // IVF_VECTORS_A_CELL)
    if cells < 2:
        raise UsageError(
            f"an {kind} index needs at least {2 * IVF_VECTORS_A_CELL} images besides those held "
            f"out to measure it, got {count}; take --kind flat"
        )
    return cells
