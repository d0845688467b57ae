"""Send images or stored embeddings to a collection, batch by batch, in constant memory."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from gsp_deploy.base.progress import Advance
from gsp_deploy.errors import DataError, brief
from gsp_deploy.images.files import ImageReader
from gsp_deploy.retrieval.checked import check_embeddings, names_of
from gsp_deploy.retrieval.identity import ModelIdentity
from gsp_deploy.retrieval.servers.collection import fill_collection
from gsp_deploy.retrieval.servers.place import Place
from gsp_deploy.retrieval.servers.store import store_of
from gsp_deploy.runtime import EmbeddingSession

if TYPE_CHECKING:
    from gsp_deploy.retrieval.dataset import StoredEmbeddings

Batch = tuple[Sequence[str], np.ndarray]  # ids, and embeddings float32 (n, D)


class Sent(NamedTuple):
    """How many embeddings were sent, how many the collection has now, and a warning or None."""

    sent: int
    total: int
    warning: str | None


def send(place: Place, batches: Iterable[Batch], model: ModelIdentity, runtime: str | None) -> Sent:
    """Send batches of a model's embeddings to a collection, which is made if there is none.

    Nothing is made if the first batch cannot be read.

    Args:
        place: the server and the collection.
        batches: `image_batches` or `stored_batches`.
        model: the model of the embeddings.
        runtime: what ran the model; None if it is unknown.

    Raises:
        UsageError: another model filled the collection.
        VectorServerError: the server cannot be reached, or refuses; the batches before are stored.
    """
    store_of(place)  # a missing client is found before anything is embedded
    batches = iter(batches)
    first = next(batches, None)
    collection, warning = fill_collection(place, model, runtime)
    sent = 0
    with collection:
        found = chain(() if first is None else (first,), batches)
        for ids, embeddings in _gathered(found, collection.request_rows):
            collection.add(ids, embeddings)
            sent += len(ids)
        return Sent(sent, len(collection), warning)


def _gathered(batches: Iterable[Batch], rows: int) -> Iterator[Batch]:
    """Join batches until a request is full: a batch of images is far smaller."""
    ids: list[str] = []
    parts: list[np.ndarray] = []
    for names, embeddings in batches:
        ids += names
        parts.append(embeddings)
        if len(ids) >= rows:
            yield ids, np.concatenate(parts)
            ids, parts = [], []
    if ids:
        yield ids, np.concatenate(parts)


def image_batches(
    session: EmbeddingSession, reader: ImageReader, progress: Advance
) -> Iterator[Batch]:
    """Yield the embeddings of every readable image.

    Raises:
        DataError: no image can be read.
    """
    done = seen = 0
    for batch in reader:
        yield batch.ids, session.embed(batch.images)
        done += len(batch.ids)
        progress(done + len(reader.failures) - seen)
        seen = done + len(reader.failures)


def stored_batches(
    stored: StoredEmbeddings, model: ModelIdentity, progress: Advance
) -> Iterator[Batch]:
    """Yield stored embeddings, checked.

    Raises:
        DataError: there are none, they are damaged, or an id of a table in one file occurs twice.
    """
    done = 0
    seen: set[str] = set()
    for batch in stored:
        ids = names_of(stored, batch)
        check_embeddings(stored, batch.embeddings, model, done)
        if stored.manifest is None:  # `embed` compared the ids of a data set when it wrote them
            _check_new(stored, ids, seen)
        yield ids, batch.embeddings
        done += len(ids)
        progress(len(ids))
    if not done:
        raise DataError(f"{stored.path} has no embeddings")


def _check_new(stored: StoredEmbeddings, ids: Sequence[str], seen: set[str]) -> None:
    for name in ids:
        if name in seen:
            raise DataError(f"{stored.path}: expected each id once, got {brief(name)} again")
        seen.add(name)
