"""Fill and search a stamped collection of a vector server."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar, cast

import numpy as np

from gsp_deploy.base.file_names import as_text, from_text
from gsp_deploy.errors import (
    DataError,
    MissingCapabilityError,
    ModelFileError,
    UsageError,
    VectorServerError,
)
from gsp_deploy.metrics import unit_rows
from gsp_deploy.retrieval.hits import Hit
from gsp_deploy.retrieval.identity import ModelIdentity
from gsp_deploy.retrieval.selection import chosen
from gsp_deploy.retrieval.servers.place import TRAINED, Place
from gsp_deploy.retrieval.servers.stamp import Stamp
from gsp_deploy.retrieval.servers.store import (
    Compacted,
    Found,
    Point,
    Store,
    TrainableStore,
    Trained,
    key_of,
    store_of,
)

T = TypeVar("T")
_LONGEST_REASON = 300
# A client in Rust prints an error as nested data, which ends with the message that says why.
_INNER = re.compile(r"<Message>([^<]+)</Message>|\bmessage: \"([^\"]+)\"")


class Collection:
    """A collection of embeddings of one model; a context manager that closes the connection.

    Attributes:
        place: the server and the name.
        stamp: the model that filled it, and the metric.
    """

    def __init__(self, place: Place, store: Store, stamp: Stamp) -> None:
        self.place, self.stamp, self._store = place, stamp, store

    @property
    def identity(self) -> ModelIdentity:
        """The model that filled the collection."""
        return self.stamp.identity

    def __enter__(self) -> Collection:
        return self

    def __exit__(self, *_: object) -> None:
        self._store.close()

    def __len__(self) -> int:
        """Return the number of embeddings that the collection has now."""
        return _ask(self.place, self._store, self._store.count)

    def add(self, ids: Sequence[str], embeddings: np.ndarray) -> None:
        """Send embeddings `(n, D)` in batches; one with an id that is there already replaces it.

        Ids are names of files. Each batch is stored before the next is sent.

        Raises:
            DataError: the embeddings do not have the collection's length.
            VectorServerError: the server refuses them; the batches before are stored.
        """
        vectors = self._units(embeddings)
        names = [as_text(name) for name in ids]
        for rows in self._requests(len(vectors)):
            named = dict(zip(names[rows], vectors[rows], strict=True))  # the last of an id stays
            points = [Point(key_of(name), name, vector) for name, vector in named.items()]
            _ask(self.place, self._store, self._store.upsert, points)

    def search(
        self, model: ModelIdentity, embeddings: np.ndarray, k: int
    ) -> tuple[list[list[Hit]], str | None]:
        """Return the `k` nearest images of each embedding, best first, and a warning or None.

        Args:
            model: the model of the embeddings.
            embeddings: float32 `(n, D)`.
            k: number of images; a smaller collection returns all of them.

        Raises:
            UsageError: the model may not search this collection, or `k` is below 1.
            DataError: the embeddings do not have the collection's length.
            VectorServerError: the server fails.
        """
        warning = self.identity.warn_or_refuse(model)
        if k < 1:
            raise UsageError(f"expected at least 1 result, got {k}")
        vectors = self._units(embeddings)
        found: list[list[Found]] = []
        for rows in self._requests(len(vectors)):
            found += _ask(self.place, self._store, self._store.nearest, vectors[rows], k)
        return [
            [Hit(rank, hit.cosine, from_text(hit.id)) for rank, hit in enumerate(row, 1)]
            for row in found
        ], warning

    def remove(self, names: Sequence[str]) -> int:
        """Remove images, and return their number.

        Args:
            names: images as the collection or the file system names them, or glob patterns.

        Raises:
            UsageError: a name matches no image, or none would be left.
            VectorServerError: the server fails; some of the images may be removed.
        """
        keys = [key_of(as_text(name)) for name in sorted(chosen(self._files(), names))]
        if len(keys) == len(self):
            raise UsageError("this would remove every image; delete the collection instead")
        for rows in self._requests(len(keys)):
            _ask(self.place, self._store, self._store.delete, keys[rows])
        return len(keys)

    def train(self, recall: float | None = None) -> Trained:
        """Train the collection's index, and measure its recall on queries that it lacks.

        Args:
            recall: the recall@10 that the search should reach, in (0, 1]; None leaves the search.

        Raises:
            UsageError: the server has an index of its own, or there are too few images.
            GateError: no setting reaches the recall; the index stays as it is.
            VectorServerError: the store fails.
        """
        return _ask(self.place, self._store, self._trainable().train, recall)

    def compact(self, recall: float | None = None) -> Compacted:
        """Rewrite the collection after many changes; others may search it meanwhile.

        Args:
            recall: see `train`; the index is trained again if it is given.

        Raises:
            As `train` does.
        """
        return _ask(self.place, self._store, self._trainable().compact, recall)

    def _trainable(self) -> TrainableStore:
        if self.place.server not in TRAINED:
            raise UsageError(f"{self.place.server} builds and compacts an index of its own")
        return cast(TrainableStore, self._store)

    @property
    def request_rows(self) -> int:
        """The most embeddings of one request."""
        points, numbers = self._store.request
        return max(1, min(points, numbers // self.identity.embedding_dim))

    def _files(self) -> Iterator[str]:
        batches = iter(_ask(self.place, self._store, self._store.names))
        while (batch := _ask(self.place, self._store, next, batches, None)) is not None:
            yield from map(from_text, batch)

    def _requests(self, count: int) -> list[slice]:
        size = self.request_rows
        return [slice(start, start + size) for start in range(0, count, size)]

    def _units(self, embeddings: np.ndarray) -> np.ndarray:
        length = self.identity.embedding_dim
        if embeddings.ndim != 2 or embeddings.shape[1] != length:
            raise DataError(
                f"{self.place}: expected embeddings (n, {length}) as the collection's, got "
                f"{embeddings.shape}; take the collection's model"
            )
        return unit_rows(np.ascontiguousarray(embeddings, dtype=np.float32))


def open_collection(place: Place) -> Collection:
    """Open a collection that `fill_collection` made.

    Raises:
        ModelFileError: there is no such collection, or gsp-deploy did not fill it.
        VectorServerError: the server cannot be reached.
    """
    if place.path is not None and not place.path.exists():
        raise _absent(place)
    store = _connect(place)
    try:
        stamp = _stamp(place, store)
        if stamp is None:
            raise _absent(place)
        return Collection(place, store, stamp)
    except BaseException:
        store.close()
        raise


def fill_collection(
    place: Place, model: ModelIdentity, runtime: str | None = None
) -> tuple[Collection, str | None]:
    """Open a collection for embeddings of a model, or make it, and return a warning or None.

    Args:
        place: the server and the collection.
        model: the model of the embeddings to add.
        runtime: what runs the model; recorded in a new collection.

    Raises:
        UsageError: another model filled the collection.
        ModelFileError: the collection exists, and gsp-deploy did not fill it.
        VectorServerError: the server cannot be reached, or refuses.
        MissingCapabilityError: the server does not keep the stamp.
    """
    store = _connect(place)
    try:
        stamp = _stamp(place, store) or _made(place, store, Stamp(model, runtime))
        warning = stamp.identity.warn_or_refuse(model, "new embeddings")
        return Collection(place, store, stamp), warning
    except BaseException:
        store.close()
        raise


def _made(place: Place, store: Store, stamp: Stamp) -> Stamp:
    """Make a collection and read its stamp again: another run may have made it meanwhile."""
    try:
        _ask(place, store, store.create, stamp.identity.embedding_dim, stamp.to_text())
    except VectorServerError:
        if (other := _stamp(place, store)) is None:
            raise
        return other
    if not (text := _ask(place, store, store.stamp)):
        raise MissingCapabilityError(
            f"{place}: the server keeps no stamp on a collection; update the server, and delete "
            f"the empty collection {place.collection}"
        )
    return Stamp.from_text(text, place)


def _stamp(place: Place, store: Store) -> Stamp | None:
    text = _ask(place, store, store.stamp)
    return None if text is None else Stamp.from_text(text, place)


def _connect(place: Place) -> Store:
    kind = store_of(place)
    return _ask(place, kind, kind, place)


def _ask(place: Place, store: Store | type[Store], call: Callable[..., T], *given: Any) -> T:
    """Call a store, and raise its client's exceptions as one line."""
    try:
        return call(*given)
    except store.errors as error:
        raise VectorServerError(
            f"{place}: {_reason(error)}; check the URI, your access, and that the server runs"
        ) from error


def _reason(error: Exception) -> str:
    text = str(getattr(error, "message", "") or error)
    if inner := _INNER.findall(text):
        text = "".join(inner[-1])
    return " ".join(text.split())[:_LONGEST_REASON]


def _absent(place: Place) -> ModelFileError:
    return ModelFileError(
        f"{place}: no such collection; fill it with gsp-deploy index --to {place.server} URI"
    )
