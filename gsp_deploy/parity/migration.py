"""Check whether queries of a new artifact may search a gallery that an old one filled.

The same images are embedded by both, and both search the old gallery. What the old queries find is
the reference, because that is what users get today. An image that is in the gallery itself is left
out of its own results, because it would find itself and flatter both.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from gsp_deploy.errors import GateError, UsageError
from gsp_deploy.images.files import class_labels
from gsp_deploy.metrics import summed_scores
from gsp_deploy.parity.gates import Gate, at_least_one_image
from gsp_deploy.precision import Tolerances, tolerances_for
from gsp_deploy.retrieval.embedding import EmbeddingTable
from gsp_deploy.retrieval.gallery import Gallery, ModelIdentity
from gsp_deploy.retrieval.recall import Estimate, estimate

RANKS = (1, 10)
_TIE = 1e-6  # cosines this close tie, because float32 rounds
_CHUNK_ENTRIES = 4_000_000


@dataclass(frozen=True)
class Quality:
    """R@1 and MAP@R of queries in the gallery, each in [0, 1]."""

    recall_at_1: float
    map_at_r: float


@dataclass(frozen=True)
class Migration:
    """What new queries find in the old gallery, against what old queries find there.

    Attributes:
        gallery, new: the model that filled the gallery, and the model of the new queries.
        queries: number of images.
        kept_at: for each k, the mean share of the new queries' k nearest images that are among the
            k nearest of the old queries, or tie with them.
        broken: new embeddings with NaN or infinity.
        members: queries that are in the gallery, each left out of its own results.
        copies: queries whose nearest image has the same embedding: copies flatter both sides.
        refusal: why `search` would refuse the new model, or None.
        old_quality, new_quality: None without classes that both queries and gallery have.
        labelled: number of queries in these two.
        gates: each figure with its limit.
    """

    gallery: ModelIdentity
    new: ModelIdentity
    queries: int
    kept_at: dict[int, Estimate]
    broken: int
    members: int
    copies: int
    refusal: str | None
    old_quality: Quality | None
    new_quality: Quality | None
    labelled: int
    gates: tuple[Gate, ...]

    def raise_on_failure(self) -> None:
        """Raise `GateError` with each gate that does not hold."""
        failed = [gate for gate in self.gates if not gate.passed]
        if failed:
            raise GateError(
                f"{self.new.file} may not search the gallery of {self.gallery.file}: "
                f"{'; '.join(str(gate) for gate in failed)}; embed the gallery again with "
                f"{self.new.file}, or set other limits"
            )

    def to_dict(self) -> dict[str, Any]:
        """Return JSON-able data."""
        qualities = {"old": self.old_quality, "new": self.new_quality}
        return {
            "gallery_model": {"file": self.gallery.file, "sha256": self.gallery.sha256},
            "new_model": {"file": self.new.file, "sha256": self.new.sha256},
            "queries": self.queries,
            "kept_at": {str(rank): vars(kept) for rank, kept in self.kept_at.items()},
            "broken": self.broken,
            "members": self.members,
            "copies": self.copies,
            "refusal": self.refusal,
            "labelled": self.labelled,
            **{name: None if q is None else vars(q) for name, q in qualities.items()},
            "passed": all(gate.passed for gate in self.gates),
            "gates": [gate.to_dict() for gate in self.gates],
        }


def check_migration(
    gallery: Gallery,
    old: tuple[ModelIdentity, EmbeddingTable],
    new: tuple[ModelIdentity, EmbeddingTable],
    *,
    with_classes: bool = True,
    limits: Mapping[str, float | None] | None = None,
) -> Migration:
    """Search the gallery with old and new embeddings of the same images, and judge.

    Args:
        gallery: the old gallery.
        old: a model that may search it, and its embeddings.
        new: the new model, and its embeddings of the same images in the same order.
        with_classes: use an image's folder as its class, if the folders can be classes.
        limits: limits by name, as in `Tolerances`; None takes those of the new precision.

    Raises:
        UsageError: the old model may not search the gallery, the images differ, or the new
            embeddings have another length.
    """
    gallery.identity.warn_or_refuse(old[0])
    tolerances = tolerances_for(new[0].precision, limits)
    ids, before, after = old[1].ids, old[1].embeddings, new[1].embeddings
    if ids != new[1].ids:
        raise UsageError("expected the same images from both models, in the same order")
    if new[0].embedding_dim != gallery.identity.embedding_dim:
        raise UsageError(
            f"the gallery has embeddings of {gallery.identity.embedding_dim}-D, and {new[0].file} "
            f"makes {new[0].embedding_dim}-D, which cannot search it; embed the gallery again"
        )
    own = _own_rows(gallery.files, ids)
    nearest, kept = _kept(gallery, before, after, own)
    qualities, labelled = (
        _qualities(gallery, ids, (before, after), own) if with_classes else ([], 0)
    )
    found = Migration(
        gallery=gallery.identity,
        new=new[0],
        queries=len(ids),
        kept_at=kept,
        broken=int((~np.isfinite(after).all(axis=1)).sum()),
        members=int((own >= 0).sum()),
        copies=int((nearest >= 1 - _TIE).sum()),
        refusal=_refusal(gallery.identity, new[0]),
        old_quality=qualities[0] if qualities else None,
        new_quality=qualities[1] if qualities else None,
        labelled=labelled,
        gates=(),
    )
    return Migration(**{**vars(found), "gates": _gates(found, tolerances)})


def _gates(found: Migration, limits: Tolerances) -> tuple[Gate, ...]:
    flips = at_least_one_image(limits.max_flips, found.queries)
    rank, kept = max(found.kept_at.items())
    gates = [
        Gate("finite", "embeddings with NaN or infinity", found.broken, 0),
        Gate("max_flips", "top-1 flips", 1 - found.kept_at[1].value, flips),
        Gate("min_overlap", f"neighbours kept@{rank}", kept.value, limits.min_overlap),
    ]
    if found.old_quality is None or found.new_quality is None:
        return tuple(gates)
    for name, title, limit in (
        ("recall_at_1", "R@1 lost", limits.max_recall_drop),
        ("map_at_r", "MAP@R lost", limits.max_map_drop),
    ):
        lost = getattr(found.old_quality, name) - getattr(found.new_quality, name)
        option = "max_recall_drop" if name == "recall_at_1" else "max_map_drop"
        gates.append(Gate(option, title, max(0.0, lost), at_least_one_image(limit, found.labelled)))
    return tuple(gates)


def _own_rows(files: Sequence[str], ids: Sequence[str]) -> np.ndarray:
    """Return each query's row in the gallery, or -1 if it is not in it."""
    places = {name: row for row, name in enumerate(files)}
    return np.array([places.get(Path(name).absolute().as_posix(), -1) for name in ids])


def _searched(
    gallery: Gallery, embeddings: np.ndarray, own: np.ndarray, k: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return cosines and rows of the `k` nearest `(Q, k)`, without each query's own row."""
    cosines, rows = gallery.nearest(np.nan_to_num(embeddings), k + 1)
    missing = k + 1 - rows.shape[1]
    rows = np.pad(rows, ((0, 0), (0, missing)), constant_values=-1)
    cosines = np.pad(cosines, ((0, 0), (0, missing)), constant_values=-math.inf)
    drop = (rows == own[:, None]) & (own >= 0)[:, None]
    drop[~drop.any(axis=1), -1] = True
    return cosines[~drop].reshape(-1, k), rows[~drop].reshape(-1, k)


def _kept(
    gallery: Gallery, before: np.ndarray, after: np.ndarray, own: np.ndarray
) -> tuple[np.ndarray, dict[int, Estimate]]:
    """Return the old queries' nearest cosine `(Q,)`, and the share of neighbours kept."""
    deep = 2 * RANKS[-1]  # so that ties behind the last rank are seen
    cosines, expected = _searched(gallery, before, own, deep)
    _, found = _searched(gallery, after, own, RANKS[-1])
    same = (found[:, :, None] == expected[:, None, :]) & (found >= 0)[:, :, None]
    kept = {}
    for rank in RANKS:
        there = (expected[:, :rank] >= 0).sum(axis=1)
        last = cosines[np.arange(len(cosines)), np.maximum(there, 1) - 1]
        near = cosines >= last[:, None] - _TIE
        hits = (same[:, :rank] & near[:, None, :]).any(axis=2).sum(axis=1)
        kept[rank] = estimate(float((hits / np.maximum(there, 1)).mean()), len(hits))
    return cosines[:, 0], kept


def _qualities(
    gallery: Gallery,
    ids: Sequence[str],
    embeddings: tuple[np.ndarray, np.ndarray],
    own: np.ndarray,
) -> tuple[list[Quality], int]:
    """Return R@1 and MAP@R of both sides, and the number of queries with an image to find."""
    labels = class_labels([Path(name).absolute() for name in (*ids, *gallery.files)])
    if labels is None:
        return [], 0
    wanted, classes = labels[: len(ids)], labels[len(ids) :]
    relevant = np.bincount(classes, minlength=labels.max() + 1)[wanted] - (own >= 0)
    searchable = np.flatnonzero(relevant > 0)
    if not len(searchable):
        return [], 0
    depth = int(relevant.max())
    step = max(1, _CHUNK_ENTRIES // (depth + 1))
    sums = np.zeros((2, 3))
    for start in range(0, len(searchable), step):
        rows = searchable[start : start + step]
        for side, vectors in enumerate(embeddings):
            _, found = _searched(gallery, vectors[rows], own[rows], depth)
            hits = (classes[found] == wanted[rows, None]) & (found >= 0)
            sums[side] += summed_scores(hits, relevant[rows], (1,))
    means = sums / len(searchable)
    return [Quality(float(side[0]), float(side[1])) for side in means], len(searchable)


def _refusal(gallery: ModelIdentity, new: ModelIdentity) -> str | None:
    try:
        gallery.warn_or_refuse(new)
    except UsageError as error:
        return str(error)
    return None
