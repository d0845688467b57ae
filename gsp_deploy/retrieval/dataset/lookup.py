"""Find the stored embeddings of some images by their names."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from gsp_deploy.errors import DataError
from gsp_deploy.retrieval.dataset.reading import StoredEmbeddings


def embeddings_of(stored: StoredEmbeddings, names: Sequence[str]) -> np.ndarray:
    """Return the embeddings of named images, float32 `(n, D)`, in the names' order.

    An image is found if its id is the name, or ends in a slash and the name: the id
    `photos/cat/1.png` belongs to `cat/1.png`. All of the data set is read once, batch by batch.

    Args:
        stored: the embeddings.
        names: the images; each name once.

    Raises:
        DataError: an image has no embedding, or two.
    """
    places = {name: place for place, name in enumerate(names)}
    ids: list[str | None] = [None] * len(names)
    found: np.ndarray | None = None
    for batch in stored:
        if found is None:
            found = np.zeros((len(names), batch.embeddings.shape[1]), np.float32)
        for row, name in enumerate(batch.ids):
            place = _place(name, places)
            if place is None:
                continue
            if ids[place] is not None:
                raise DataError(
                    f"{stored.path} has two embeddings for {names[place]}: {ids[place]} and {name}"
                )
            ids[place] = name
            found[place] = batch.embeddings[row]
    missing = [name for name, known in zip(names, ids, strict=True) if known is None]
    if missing or found is None:
        raise DataError(
            f"{stored.path} has no embedding of {len(missing):,} of the {len(names):,} images, "
            f"such as {missing[0] if missing else 'any'}; embed the same images first"
        )
    return found


def _place(name: str, places: dict[str, int]) -> int | None:
    """Return the place of the longest ending of an id that is a name."""
    while (place := places.get(name)) is None:
        _, slash, name = name.partition("/")
        if not slash:
            return None
    return place
