"""Check stored embeddings and their ids before an index takes them."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from gsp_deploy.base.file_names import from_text
from gsp_deploy.errors import DataError, UsageError, brief
from gsp_deploy.retrieval.identity import ModelIdentity

if TYPE_CHECKING:
    from gsp_deploy.retrieval.dataset import StoredBatch, StoredEmbeddings

_RAW_IDS = (".npy", ".npz")  # Parquet holds ids as `as_text` writes them


def model_of(
    stored: StoredEmbeddings, model: ModelIdentity | None
) -> tuple[ModelIdentity, str | None]:
    """Return the model of stored embeddings, and a warning or None.

    Args:
        stored: a data set records its model; a table in one file does not.
        model: the model that the user names. If the data set records one, they are compared as
            `ModelIdentity.warn_or_refuse` does, and the recorded one stays.

    Raises:
        UsageError: the model is unknown, or another one than the recorded one.
    """
    recorded = stored.identity
    if recorded is not None:
        return recorded, None if model is None else recorded.warn_or_refuse(model)
    if model is None:
        raise UsageError(
            f"{stored.path} does not record which model its embeddings are from; name that model "
            "with --model, or index a folder that embed wrote"
        )
    return model, None


def names_of(stored: StoredEmbeddings, batch: StoredBatch) -> tuple[str, ...]:
    """Return the ids of a batch as names of files.

    Raises:
        DataError: no file can have such a name.
    """
    raw = stored.path.suffix in _RAW_IDS
    ids = batch.ids if raw else tuple(map(from_text, batch.ids))
    try:
        check_names(ids, "ids")
    except ValueError as error:
        raise DataError(f"{stored.path}: {error}") from error
    return ids


def check_embeddings(
    stored: StoredEmbeddings, embeddings: np.ndarray, model: ModelIdentity, first: int = 0
) -> None:
    """Check some embeddings `(n, D)`; `first` is the number of the first one of them.

    Raises:
        DataError: they are not as long as the model's, or not finite.
    """
    if embeddings.shape[1] != model.embedding_dim:
        raise DataError(
            f"{stored.path}: expected embeddings of {model.embedding_dim}-D from "
            f"{model.file}, got {embeddings.shape[1]}-D"
        )
    whole = np.isfinite(embeddings).all(axis=1)
    if not whole.all():
        raise DataError(
            f"{stored.path}: embedding {first + int(np.argmin(whole))} contains NaN or infinity; "
            "embed that image again"
        )


def check_names(names: Sequence[str], holder: str) -> None:
    """Raise `ValueError`, naming the holder, unless each name is one that a file can have."""
    for name in names:
        if not name or "\0" in name or not _has_bytes(name):
            raise ValueError(f"{holder} must hold file names, got {brief(name)}")


def _has_bytes(name: str) -> bool:
    """Whether a file can have this name; Python writes a byte that is not UTF-8 as a surrogate."""
    try:
        os.fsencode(name)
    except UnicodeEncodeError:
        return False
    return True
