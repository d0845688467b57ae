"""Index embeddings that `embed` wrote: a data set, or a table in one file."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from gsp_deploy.base.choices import GalleryKind
from gsp_deploy.errors import DataError, brief
from gsp_deploy.retrieval.checked import check_embeddings, model_of, names_of
from gsp_deploy.retrieval.gallery.build import gallery_of
from gsp_deploy.retrieval.gallery.index import Gallery
from gsp_deploy.retrieval.gallery.kinds import check_kind
from gsp_deploy.retrieval.identity import ModelIdentity

if TYPE_CHECKING:
    from gsp_deploy.retrieval.dataset import StoredEmbeddings


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
    identity, warning = model_of(stored, model)
    rows = stored.read()
    ids = names_of(stored, rows)
    name, times = Counter(ids).most_common(1)[0]
    if times > 1:
        raise DataError(f"{stored.path}: expected each id once, got {brief(name)} {times} times")
    check_embeddings(stored, rows.embeddings, identity)
    return gallery_of(ids, rows.embeddings, identity, kind, recall), warning
