"""One run at a time in a folder; the shards of one run may share it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TextIO

from gsp_deploy.base.locks import hold
from gsp_deploy.base.scratch import refusals_of
from gsp_deploy.errors import UsageError
from gsp_deploy.retrieval.job.finished import refuse_foreign


@contextmanager
def sole_run(folder: Path, shard: str | None) -> Iterator[None]:
    """Hold the folder for this run; the system releases it when the process ends, however it ends.

    Args:
        folder: the data set's folder, which is created.
        shard: the shard's name. Shards share the folder, but each is there once.

    Raises:
        UsageError: another run holds the folder, or it contains something that embed did not make.
        OutputError: the folder cannot be written.

    A folder that this run created is removed if nothing but locks is in it at the end.
    """
    refuse_foreign(folder)
    created = not folder.exists()
    names = [(".lock", shard is not None)]
    names += [] if shard is None else [(f".lock-{shard}", False)]
    streams = []
    try:
        with refusals_of(folder):
            folder.mkdir(parents=True, exist_ok=True)
            for name, shared in names:
                streams.append((folder / name).open("a"))
                _take(streams[-1], folder, shared)
        yield
    finally:
        for stream in streams:
            stream.close()
        if created:
            _remove_if_empty(folder)


def _take(stream: TextIO, folder: Path, shared: bool) -> None:
    try:
        hold(stream, shared=shared)
    except BlockingIOError as error:
        raise UsageError(
            f"another run is writing into {folder}; wait until it ends, or choose another folder"
        ) from error
    except OSError:
        pass  # a file system without locks


def _remove_if_empty(folder: Path) -> None:
    with suppress(OSError):
        found = list(folder.iterdir())
        if all(path.name.startswith(".lock") for path in found):
            for path in found:
                path.unlink()
            folder.rmdir()
