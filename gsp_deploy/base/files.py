"""Files that appear whole or not at all, and the hashes that manifests carry."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from gsp_deploy.base.inputs import open_regular
from gsp_deploy.base.moves import move_together
from gsp_deploy.base.origin import made_here
from gsp_deploy.base.scratch import scratch_beside, settle
from gsp_deploy.errors import UsageError


def refuse_overwrite(path: Path, force: bool) -> None:
    """Raise `UsageError` unless `path` is free, or this tool made it and `force` was given.

    `--force` is not advised for a file that it would not replace.
    """
    settle(path)
    if not os.path.lexists(path):
        return
    if not made_here(path):
        raise UsageError(f"{path} exists, and gsp-deploy did not make it; choose another name")
    if not force:
        raise UsageError(f"{path} exists; pass --force to replace it, or choose another name")


def refuse_inputs_inside(output: Path, inputs: Iterable[Path]) -> None:
    """Raise `UsageError` where an input is the output, or is in the folder that outputs go to."""
    place = output.resolve()
    for file in inputs:
        real = file.resolve()
        if place == real:
            raise UsageError(f"{output} is read as well; choose another output")
        if place in real.parents:
            raise UsageError(
                f"{file} is read, and is inside the output folder {output}; choose another folder"
            )


@contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a temporary path beside `path`, moved onto it when the block ends without an error.

    A crash, a full disk or an interrupt leaves the old file as it was and no partial new one.

    Raises:
        OutputError: the file cannot be written.
    """
    with replacing_together(path) as (temporary,):
        yield temporary


@contextmanager
def replacing_together(*paths: str | os.PathLike[str]) -> Iterator[tuple[Path, ...]]:
    """Yield temporary paths for files of one folder that belong together, the main one last.

    They have the files' own names, and are moved when the block ends without an error: all of
    them, or none. A kill between two moves leaves the main file away, never an old one beside new
    ones; the next run, or the next reader that calls `settle`, puts the new one there.

    Raises:
        OutputError: a file cannot be written.
    """
    targets = [Path(path) for path in paths]
    main = targets[-1]
    with scratch_beside(main) as folder:
        fresh = tuple(folder / target.name for target in targets)
        yield fresh
        for file in fresh:
            flush_to_disk(file)
        move_together(folder.parent, [target.name for target in targets])


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """Write `text` as UTF-8, whole or not at all."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_document(path: Path, kind: str, data: Mapping[str, Any], version: int = 1) -> None:
    """Write one versioned JSON document, as `--json` prints it, whole or not at all."""
    document = {"document": kind, "version": version, **data}
    write_text(path, json.dumps(document, indent=2) + "\n")


def sha256_of(path: str | os.PathLike[str]) -> str:
    """Return the SHA-256 of a file's bytes, in hexadecimal; a pipe or a device is not opened."""
    with open_regular(path) as stream:
        digest = hashlib.sha256()
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def flush_to_disk(path: Path) -> None:
    """Wait until a file's bytes are on the disk; a full disk may tell only now."""
    with open(path, "rb") as stream:
        os.fsync(stream.fileno())
