"""Embed sources into a data set that survives a kill: the same run again does what is missing.

    run = EmbeddingRun(job, Sources(["photos/"], 8192))
    for part in run.parts(executor):
        print(part.name)
    run.finish()

Slices of the sources become parts, in any order and by any number of workers. A part's bytes
depend on its slice and on the settings alone. The manifest is written when no part is missing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial
from itertools import chain
from pathlib import Path

from gsp_deploy.base.progress import Announce
from gsp_deploy.base.scratch import remove_left_behind
from gsp_deploy.errors import DataError, UsageError
from gsp_deploy.images.walking import PassedOver
from gsp_deploy.retrieval.dataset.layout import Part, key_of
from gsp_deploy.retrieval.dataset.manifest import DatasetManifest, read_manifest, write_manifest
from gsp_deploy.retrieval.job.finished import Finished, footers_of, strangers
from gsp_deploy.retrieval.job.repeats import refuse_repeated_ids
from gsp_deploy.retrieval.job.worker import Job, Task
from gsp_deploy.retrieval.stored import MANIFEST
from gsp_deploy.sources import Sources

# Runs tasks somewhere and yields their parts, in any order.
Executor = Callable[[Job, Iterable[Task]], Iterator[Part]]


@dataclass(frozen=True)
class Shard:
    """The share of one of `count` runs: it embeds every slice with this number modulo `count`."""

    index: int = 0
    count: int = 1

    def __post_init__(self) -> None:
        if not 0 <= self.index < self.count:
            raise UsageError(
                f"expected a shard i/n with 0 <= i < n, such as 0/8, got {self.index}/{self.count}"
            )

    @classmethod
    def parse(cls, text: str) -> Shard:
        """Return the shard that `i/n` names.

        Raises:
            UsageError: the text has another form, or i is not below n.

        >>> Shard.parse("3/8")
        Shard(index=3, count=8)
        """
        index, _, count = text.partition("/")
        if not (index.isdecimal() and count.isdecimal()):
            raise UsageError(f"expected a shard i/n, such as 0/8, got {text!r}")
        return cls(int(index), int(count))

    @property
    def name(self) -> str | None:
        """A name for files; None for the only shard."""
        return None if self.count == 1 else f"{self.index}-of-{self.count}"


@dataclass
class Counts:
    """How many images and parts; `reused` are the parts that were finished before.

    `passed_over` counts the members of tar files that are no images.
    """

    images: int = 0
    failures: int = 0
    parts: int = 0
    reused: int = 0
    passed_over: PassedOver = field(default_factory=PassedOver)

    def add(self, part: Part) -> None:
        """Count one part."""
        self.images += part.images
        self.failures += part.failures
        self.parts += 1
        self.passed_over += part.passed_over


@dataclass
class EmbeddingRun:
    """One run of a job over sources, or one shard of it.

    Attributes:
        job: the model, the settings and the folder.
        sources: the images.
        shard: the share of this run.
        force: replace parts with other settings or of another source.
        note: called with lines for the user.
        counts: what this run has embedded so far, and what it found finished.
    """

    job: Job
    sources: Sources
    shard: Shard = field(default_factory=Shard)
    force: bool = False
    note: Announce = lambda line: None
    counts: Counts = field(default_factory=Counts, init=False)
    _keys: list[str] = field(default_factory=list, init=False)

    def parts(self, executor: Executor) -> Iterator[Part]:
        """Embed what is missing; yield each part, those that were finished before too.

        Raises:
            UsageError: the folder was made with other settings, or from another source.
            GspDeployError: a source, a worker or the disk fails; finished parts stay valid.
        """
        self._keys.clear()
        self.counts = Counts()
        found: list[Part] = []
        tasks = self._tasks(found)
        first = next(tasks, None)
        if first is not None:
            (self.job.folder / MANIFEST).unlink(missing_ok=True)  # it is about to become untrue
            for part in executor(self.job, chain((first,), tasks)):
                self.counts.add(part)
                yield part
        for part in found:
            self.counts.add(part)
            self.counts.reused += 1
            yield part

    def finish(self) -> DatasetManifest | None:
        """Write the manifest and return it; return None while other shards are not done.

        Raises:
            DataError: no image can be read, or an id occurs twice.
            UsageError: parts remain that belong to no slice, and `force` is false.
        """
        folder, settings = self.job.folder, self.job.settings
        parts: list[Part] = []
        for number, key in enumerate(self._keys):
            found = footers_of(folder, number, partial(key_of, settings, key))
            if found is None:
                return None
            parts += found
        images, failures = (sum(getattr(p, n) for p in parts) for n in ("images", "failures"))
        if not images and not failures:
            raise self.sources.nothing_found(sum((p.passed_over for p in parts), PassedOver()))
        if not images:
            raise DataError(f"none of the {failures:,} images can be read; see {folder}/failures-*")
        self._remove_strangers(parts)
        refuse_repeated_ids(folder, parts)
        arguments = self.sources.arguments
        manifest = DatasetManifest(settings, arguments, images, failures, tuple(parts))
        if not _is_written(manifest, folder):
            write_manifest(manifest, folder)
        return manifest

    def _tasks(self, found: list[Part]) -> Iterator[Task]:
        """Yield what is missing of this shard, and add what is not to `found`."""
        finished = Finished(self.job.folder, self.job.settings, self.force, self.note)
        for piece in self.sources:
            self._keys.append(piece.key)
            if piece.number % self.shard.count != self.shard.index:
                continue
            parts, complete = finished.of(piece.number, piece.key)
            found += parts
            if not complete:
                yield Task(piece, len(parts))

    def _remove_strangers(self, parts: list[Part]) -> None:
        """Remove parts of slices that no longer exist, and what killed runs left behind."""
        left = strangers(self.job.folder, parts)
        if left and not self.force and any(path.name.startswith("part-") for path in left):
            raise UsageError(
                f"{left[0]} belongs to no slice of these sources, so they have changed; pass "
                "--force to remove it, or choose another folder"
            )
        for path in left:
            path.unlink(missing_ok=True)
        hidden = chain.from_iterable(map(self.job.folder.glob, (".*.parquet.*", f".{MANIFEST}.*")))
        for name in {path.name[1:].rpartition(".")[0] for path in hidden}:
            remove_left_behind(self.job.folder / name)


def _is_written(manifest: DatasetManifest, folder: Path) -> bool:
    return (folder / MANIFEST).is_file() and read_manifest(folder) == manifest
