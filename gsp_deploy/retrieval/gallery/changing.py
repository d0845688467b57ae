"""Add images to a gallery, remove images from it, and build it again after many changes.

All of them return a gallery that `write_gallery` then writes whole, so that a killed run leaves the
old one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import faiss
import numpy as np

from gsp_deploy.errors import UsageError
from gsp_deploy.retrieval.gallery.build import gallery_of
from gsp_deploy.retrieval.gallery.index import Gallery
from gsp_deploy.retrieval.gallery.kinds import setting_of
from gsp_deploy.retrieval.selection import chosen


def added(gallery: Gallery, addition: Gallery) -> tuple[Gallery, str | None]:
    """Add the images of a flat gallery that are not in the other one yet, by their names.

    The index of `gallery` grows in place. Its recall stays as it was measured, on the number of
    images that `Recall.images` says; the cells and codes of `ivf` and `ivf-pq` stay those of the
    first images.

    Returns:
        the gallery, with the failures of the addition; and a warning or None.

    Raises:
        UsageError: the addition's model may not fill this gallery.
    """
    warning = gallery.identity.warn_or_refuse(addition.identity, "new embeddings")
    known = set(gallery.files)
    rows = [row for row, name in enumerate(addition.files) if name not in known]
    if rows:
        gallery.index.add(embeddings_of(addition)[rows])
    files = (*gallery.files, *(addition.files[row] for row in rows))
    return replace(gallery, files=files, failures=addition.failures), warning


def without(gallery: Gallery, names: Sequence[str]) -> Gallery:
    """Build the gallery again without some images, and measure its recall again.

    The embeddings come from the index, so no model is needed. Those of `ivf-pq` are its float16
    copies. The settings of the search stay.

    Args:
        gallery: the gallery, which stays as it is.
        names: images as the gallery or the file system names them, or glob patterns.

    Raises:
        UsageError: a name matches no image, or too few images would be left.
    """
    gone = chosen(gallery.files, names)
    kept = [row for row, file in enumerate(gallery.files) if file not in gone]
    if not kept:
        raise UsageError("this would remove every image; delete the gallery's folder instead")
    return _rebuilt(gallery, kept)


def compacted(gallery: Gallery, recall: float | None = None) -> Gallery:
    """Build the gallery again, so that its cells, codes or graph fit the images that it has now.

    Args:
        gallery: the gallery, which stays as it is.
        recall: see `gallery_of`; None leaves the settings of the search.

    Raises:
        UsageError: no recall can be chosen, because the gallery is exact.
        GateError: no setting of the index reaches the recall.
    """
    return _rebuilt(gallery, list(range(len(gallery.files))), recall)


def imbalance_of(gallery: Gallery) -> float | None:
    """Return the time of a search over that with cells of equal size; None without cells."""
    cells: Any = faiss.try_extract_index_ivf(gallery.index)
    return None if cells is None else float(cells.invlists.imbalance_factor())


def _rebuilt(gallery: Gallery, kept: list[int], recall: float | None = None) -> Gallery:
    return gallery_of(
        [gallery.files[row] for row in kept],
        embeddings_of(gallery)[kept],
        gallery.identity,
        gallery.kind,
        recall,
        setting=setting_of(gallery.kind, gallery.index),
    )


def embeddings_of(gallery: Gallery) -> np.ndarray:
    """Return the unit embeddings that an index holds, float32 `(n, D)`, in the order of `files`."""
    index: Any = gallery.index
    if gallery.kind == "ivf-pq":
        index = faiss.downcast_index(index.refine_index)
    elif gallery.kind == "ivf":
        index = faiss.clone_index(index)
        index.make_direct_map()
    return np.asarray(index.reconstruct_n(0, len(gallery.files)))
