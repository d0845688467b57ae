"""Write files whole or not at all, and compute the hashes for manifests."""

from __future__ import annotations

import errno
import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from gsp_deploy.base.file_names import names_as_text
from gsp_deploy.base.inputs import open_regular
from gsp_deploy.base.moves import move_together
from gsp_deploy.base.origin import made_here
from gsp_deploy.base.scratch import scratch_beside, settle
from gsp_deploy.errors import OutputError, UsageError


def refuse_overwrite(path: Path, force: bool) -> None:
    """Raise `UsageError` unless `path` is free, or gsp-deploy made it and `force` is given.

    The message suggests `--force` only if `--force` would replace the file.
    """
    settle(path)
    if not os.path.lexists(path):
        return
    if not made_here(path):
        raise UsageError(f"{path} exists, and gsp-deploy did not make it; choose another name")
    if not force:
        raise UsageError(f"{path} exists; pass --force to replace it, or choose another name")


def refuse_inputs_inside(output: Path, inputs: Iterable[Path]) -> None:
    """Raise `UsageError` if an input is the output, or is inside the output folder."""
    place = output.resolve()
    for file in inputs:
        real = file.resolve()
        if place == real:
            raise UsageError(f"{output} is also an input; choose another output")
        if place in real.parents:
            raise UsageError(
                f"the input {file} is inside the output folder {output}; choose another folder"
            )


@contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a temporary path beside `path`, and move it onto `path` if the block succeeds.

    After a crash, a full disk or an interrupt the old file is unchanged, and no partial new file
    remains.

    Raises:
        OutputError: the file cannot be written.
    """
    with replacing_together(path) as (temporary,):
        yield temporary


@contextmanager
def replacing_together(*paths: str | os.PathLike[str]) -> Iterator[tuple[Path, ...]]:
    """Yield temporary paths for files of one folder that belong together, the main one last.

    They have the files' own names. If the block succeeds, all of them are moved, or none. If a
    kill comes between two moves, the main file is missing for now, so that an old one is never
    beside new ones; the next run, or the next reader that calls `settle`, moves the new one there.

    Raises:
        OutputError: a file cannot be written.
    """
    targets = [Path(path) for path in paths]
    for target in targets:
        if target.is_dir():
            raise OutputError(target, os.strerror(errno.EISDIR))
    main = targets[-1]
    with scratch_beside(main) as folder:
        fresh = tuple(folder / target.name for target in targets)
        yield fresh
        for file in fresh:
            flush_to_disk(file)
        move_together(folder.parent, [target.name for target in targets])


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """Write `text` as UTF-8, whole or not at all; escapes stand for bytes that are not UTF-8."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8", errors="backslashreplace")


def write_texts(texts: Mapping[Path, str]) -> None:
    """Write texts as `write_text` does; those of one folder are all written, or none.

    The last one is the main one; see `replacing_together`.
    """
    folders: dict[Path, list[Path]] = {}
    for path in texts:
        folders.setdefault(path.parent.resolve(), []).append(path)
    for paths in folders.values():
        with replacing_together(*paths) as fresh:
            for path, temporary in zip(paths, fresh, strict=True):
                temporary.write_text(texts[path], encoding="utf-8", errors="backslashreplace")


def document_text(kind: str, data: Mapping[str, Any], version: int = 1) -> str:
    """Return one versioned JSON document in the form that `--json` prints."""
    document = names_as_text({"document": kind, "version": version, **data})
    return json.dumps(document, indent=2) + "\n"


def write_document(path: Path, kind: str, data: Mapping[str, Any], version: int = 1) -> None:
    """Write one versioned JSON document, whole or not at all."""
    write_text(path, document_text(kind, data, version))


def sha256_of(path: str | os.PathLike[str]) -> str:
    """Return the SHA-256 of a regular file's bytes, in hexadecimal.

    Raises:
        NotRegularError: the path is a folder, a pipe or a device.
        OSError: the file cannot be read.
    """
    with open_regular(path) as stream:
        digest = hashlib.sha256()
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def flush_to_disk(path: Path) -> None:
    """Wait until a file's bytes are on the disk; some systems report a full disk only here."""
    with open(path, "rb") as stream:
        os.fsync(stream.fileno())
