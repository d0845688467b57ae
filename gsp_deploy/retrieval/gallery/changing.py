"""Add images to a gallery, and remove images from it.

Both return a gallery that `write_gallery` then writes whole, so that a killed run leaves the old
one.
"""

from __future__ import annotations

import glob
from collections.abc import Sequence
from dataclasses import replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import faiss
import numpy as np

from gsp_deploy.errors import UsageError, brief
from gsp_deploy.retrieval.gallery.build import gallery_of
from gsp_deploy.retrieval.gallery.index import Gallery
from gsp_deploy.retrieval.gallery.kinds import setting_of


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
    gone = {row for name in names for row in _matching(gallery.files, name)}
    kept = [row for row in range(len(gallery.files)) if row not in gone]
    if not kept:
        raise UsageError("this would remove every image; delete the gallery's folder instead")
    return gallery_of(
        [gallery.files[row] for row in kept],
        embeddings_of(gallery)[kept],
        gallery.identity,
        gallery.kind,
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


def _matching(files: Sequence[str], name: str) -> list[int]:
    forms = {name, Path(name).absolute().as_posix()}
    rows = [row for row, file in enumerate(files) if file in forms]
    if not rows and glob.has_magic(name):
        rows = [row for row, file in enumerate(files) if any(fnmatchcase(file, f) for f in forms)]
    if not rows:
        raise UsageError(f"the gallery has no image {brief(name)}")
    return rows
