"""A worker: it opens the model once, and turns slices of the sources into parts on disk."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import chain, islice
from pathlib import Path

import numpy as np

from gsp_deploy.errors import DataError, MissingCapabilityError
from gsp_deploy.images.walking import PassedOver
from gsp_deploy.retrieval.dataset.layout import EmbeddingSettings, Part, key_of
from gsp_deploy.retrieval.dataset.parts import failures_table, part_table, write_part
from gsp_deploy.retrieval.job.settings import blank_images, runtime_words
from gsp_deploy.retrieval.pipeline import Decoded, EmbeddedBatch, decoded, embedded
from gsp_deploy.runtime import SessionOptions, open_with
from gsp_deploy.sources import Record, Slice


@dataclass(frozen=True)
class Job:
    """What every worker of a run needs to know.

    Attributes:
        model: the model file.
        options: how to run it.
        settings: what determines the parts.
        folder: the data set's folder.
        strict: stop at the first image that cannot be read.
        decoders: decoding threads of one worker.
    """

    model: Path
    options: SessionOptions
    settings: EmbeddingSettings
    folder: Path
    strict: bool = False
    decoders: int = 1


@dataclass(frozen=True)
class Task:
    """A slice, and the number of its parts that are finished already."""

    piece: Slice
    finished: int = 0


class Worker:
    """An open model that embeds slices. Use it as a context manager, or call `close`.

    Raises:
        MissingCapabilityError: this machine has another runtime than the run began with.
    """

    def __init__(self, job: Job) -> None:
        self._job = job
        self._session = open_with(job.model, job.options)
        info = self._session.info
        self._spec = info.require_preprocessing()
        if (found := runtime_words(info)) != job.settings.runtime:
            self._session.close()
            raise MissingCapabilityError(
                f"this worker runs {found}, but the run began with {job.settings.runtime}; "
                "install the same version on every machine"
            )
        blank = self._session.run(blank_images(info, 1), job.settings.outputs)
        self._empty = {name: values[:0] for name, values in blank.items()}

    def embed(self, task: Task) -> Iterator[Part]:
        """Embed a slice from its first missing part on; yield each part when it is on disk.

        Raises:
            SourceError: the source cannot be read, or changed meanwhile.
            DataError: two images of a part have the same id; or, with `strict`, one is broken.
            OutputError: a part cannot be written.
        """
        size, number = self._job.settings.shard_size, task.finished
        passed_over: list[PassedOver] = []
        records = task.piece.records(number * size, passed_over.append)
        settings = self._job.settings
        reduced = settings.model.reduced_jpeg
        images = decoded(records, self._spec, settings.batch, self._job.decoders, reduced=reduced)
        first = next(images, None)
        rest = images if first is None else chain((first,), images)
        with ThreadPoolExecutor(1, thread_name_prefix="write") as disk:
            written = None
            while True:
                batches = self._embedded(islice(rest, size))
                following = next(rest, None)
                part = self._part(task.piece, number, batches)
                if following is None:
                    members = sum(passed_over, PassedOver())
                    part = replace(part, last=True, passed_over=members)
                task.piece.check_unchanged()
                if written is not None:
                    yield written.result()
                written = disk.submit(self._write, part, batches)
                if following is None:
                    yield written.result()
                    return
                rest, number = chain((following,), rest), number + 1

    def close(self) -> None:
        """Release the model."""
        self._session.close()

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _embedded(self, images: Iterator[Decoded]) -> list[EmbeddedBatch]:
        job = self._job
        batch, outputs = job.settings.batch, job.settings.outputs
        return list(embedded(self._session, images, batch, outputs, job.strict))

    def _part(self, piece: Slice, number: int, batches: list[EmbeddedBatch]) -> Part:
        return Part(
            slice=piece.number,
            piece=number,
            key=key_of(self._job.settings, piece.key, number),
            images=sum(len(batch.records) for batch in batches),
            failures=sum(len(batch.failures) for batch in batches),
            last=False,
        )

    def _write(self, part: Part, batches: list[EmbeddedBatch]) -> Part:
        records = [record for batch in batches for record in batch.records]
        broken = [failure for batch in batches for failure in batch.failures]
        refuse_repeated(part.name, (*records, *(record for record, _ in broken)))
        arrays = [batch.outputs for batch in batches if batch.records] or [self._empty]
        outputs = {name: np.concatenate([a[name] for a in arrays]) for name in self._empty}
        ids, sources = [r.id for r in records], [r.source for r in records]
        rows = part_table(ids, sources, outputs, self._job.settings.storage)
        failures = failures_table(
            [record.id for record, _ in broken],
            [record.source for record, _ in broken],
            [str(error) for _, error in broken],
        )
        write_part(self._job.folder, part, self._job.settings, rows, failures)
        return part


def refuse_repeated(place: str, records: Sequence[Record]) -> None:
    """Raise `DataError` if two images have the same id."""
    seen: set[str] = set()
    for record in records:
        if record.id in seen:
            raise repeated_id(record.id, place)
        seen.add(record.id)


def repeated_id(name: str, place: str) -> DataError:
    """Return the error for an id that occurs twice."""
    return DataError(
        f"the id {name!r} is there twice ({place}); an id must name one image: list it once, or "
        "choose another --id-column"
    )
