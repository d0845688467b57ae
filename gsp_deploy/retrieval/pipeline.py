"""Read, decode and embed at the same time: three stages, in order, in constant memory."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

import numpy as np

from gsp_deploy.config import PreprocessingSpec
from gsp_deploy.errors import DataError
from gsp_deploy.images.ahead import read_ahead, worked_ahead
from gsp_deploy.runtime import EmbeddingSession
from gsp_deploy.sources import Record

Decoded = tuple[Record, "np.ndarray | DataError"]


@dataclass(frozen=True, eq=False)
class EmbeddedBatch:
    """Some images: their records, the model's outputs by name, and those that could not be read."""

    records: Sequence[Record]
    outputs: Mapping[str, np.ndarray]
    failures: Sequence[tuple[Record, DataError]]

    @property
    def seen(self) -> int:
        """Number of images of both kinds."""
        return len(self.records) + len(self.failures)


def decoded(
    records: Iterable[Record],
    spec: PreprocessingSpec,
    batch: int,
    threads: int,
    *,
    reduced: bool = False,
) -> Iterator[Decoded]:
    """Yield records with their pixels, or with the reason why they have none.

    One thread reads the source, `threads` decode, both about one batch ahead.
    """
    load = partial(Record.pixels, spec=spec, reduced=reduced)
    yield from worked_ahead(read_ahead(records, batch), load, batch, threads)


def embedded(
    session: EmbeddingSession,
    images: Iterable[Decoded],
    batch: int,
    outputs: Sequence[str],
    strict: bool = False,
) -> Iterator[EmbeddedBatch]:
    """Yield batches in order while the network works on the next one.

    Every batch but the last has `batch` images, whatever could not be read between them: so the
    network gets the same batches in every run.

    Args:
        session: the model.
        images: what `decoded` yields.
        batch: images per batch.
        outputs: names of the model's outputs.
        strict: raise the first image's `DataError`.
    """
    waiting: deque[tuple[list[Record], list[tuple[Record, DataError]], Future]] = deque()
    with ThreadPoolExecutor(1, thread_name_prefix="embed") as network:
        for records, pixels, failures in _batches(images, batch, strict):
            future = network.submit(_run, session, pixels, tuple(outputs))
            waiting.append((records, failures, future))
            if len(waiting) > 1:
                yield _result(waiting)
        while waiting:
            yield _result(waiting)


def _result(waiting: deque) -> EmbeddedBatch:
    records, failures, future = waiting.popleft()
    return EmbeddedBatch(records, future.result(), failures)


def _run(
    session: EmbeddingSession, pixels: list[np.ndarray], outputs: tuple[str, ...]
) -> Mapping[str, np.ndarray]:
    if not pixels:
        return {}
    return session.run(np.stack(pixels), outputs)


def _batches(
    images: Iterable[Decoded], batch: int, strict: bool
) -> Iterator[tuple[list[Record], list[np.ndarray], list[tuple[Record, DataError]]]]:
    records: list[Record] = []
    pixels: list[np.ndarray] = []
    failures: list[tuple[Record, DataError]] = []
    for record, found in images:
        if isinstance(found, DataError):
            if strict:
                raise found
            failures.append((record, found))
            continue
        records.append(_without_content(record))
        pixels.append(found)
        if len(pixels) == batch:
            yield records, pixels, failures
            records, pixels, failures = [], [], []
    if pixels or failures:
        yield records, pixels, failures


def _without_content(record: Record) -> Record:
    """Return a record without its bytes, which nobody needs once they are decoded."""
    return Record(record.id, record.source, record.location)
