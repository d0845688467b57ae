"""Index embeddings that `embed` wrote: a data set, or a table in one file."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import numpy as np

from gsp_deploy.base.choices import GalleryKind
from gsp_deploy.base.file_names import from_text
from gsp_deploy.errors import DataError, UsageError, brief
from gsp_deploy.retrieval.gallery.build import gallery_of
from gsp_deploy.retrieval.gallery.index import Gallery, check_names
from gsp_deploy.retrieval.gallery.kinds import check_kind
from gsp_deploy.retrieval.identity import ModelIdentity

if TYPE_CHECKING:
    from gsp_deploy.retrieval.dataset import StoredEmbeddings

_RAW_IDS = (".npy", ".npz")  # Parquet holds ids as `as_text` writes them


def gallery_from(
    stored: StoredEmbeddings,
    kind: GalleryKind = "flat",
    model: ModelIdentity | None = None,
    recall: float | None = None,
) -> tuple[Gallery, str | None]:
    """Index stored embeddings, and return the gallery and a warning or None.

    Args:
        stored: a data set records its model; a table in one file does not.
        kind: see `gallery_of`.
        model: the model of the embeddings. If the data set records one, they are compared as
            `ModelIdentity.warn_or_refuse` does, and the recorded one stays.
        recall: see `gallery_of`.

    Raises:
        UsageError: the model is unknown or another one, or the kind does not fit.
        GateError: no setting of the index reaches the recall.
        DataError: the embeddings are damaged, or an id is missing or there twice.
    """
    check_kind(kind, recall)
    identity, warning = _identity(stored, model)
    rows = stored.read()
    ids = rows.ids if stored.path.suffix in _RAW_IDS else tuple(map(from_text, rows.ids))
    try:
        check_names(ids)
    except ValueError as error:
        raise DataError(f"{stored.path}: {error}") from error
    name, times = Counter(ids).most_common(1)[0]
    if times > 1:
        raise DataError(f"{stored.path}: expected each id once, got {brief(name)} {times} times")
    _check_embeddings(stored, rows.embeddings, identity)
    return gallery_of(ids, rows.embeddings, identity, kind, recall), warning


def _identity(
    stored: StoredEmbeddings, model: ModelIdentity | None
) -> tuple[ModelIdentity, str | None]:
    recorded = stored.identity
    if recorded is not None:
        return recorded, None if model is None else recorded.warn_or_refuse(model)
    if model is None:
        raise UsageError(
            f"{stored.path} does not record which model its embeddings are from; name that model "
            "with --model, or index a folder that embed wrote"
        )
    return model, None


def _check_embeddings(
    stored: StoredEmbeddings, embeddings: np.ndarray, identity: ModelIdentity
) -> None:
    if embeddings.shape[1] != identity.embedding_dim:
        raise DataError(
            f"{stored.path}: expected embeddings of {identity.embedding_dim}-D from "
            f"{identity.file}, got {embeddings.shape[1]}-D"
        )
    whole = np.isfinite(embeddings).all(axis=1)
    if not whole.all():
        raise DataError(
            f"{stored.path}: embedding {int(np.argmin(whole))} contains NaN or infinity; embed "
            "that image again"
        )
