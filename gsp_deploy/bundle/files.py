"""Write and check the hashes of a bundle's files."""

from __future__ import annotations

import os
import shutil
from contextlib import suppress
from pathlib import Path

from gsp_deploy.artifact.bundle_manifest import (
    MANIFEST_NAME,
    check_inside,
    is_own_file,
    read_own_text,
)
from gsp_deploy.artifact.identity import SUMS_NAME
from gsp_deploy.base.files import sha256_of, write_text
from gsp_deploy.errors import ModelFileError, brief, reason_of

_HASH_LENGTH = 64


def write_sums(folder: Path) -> None:
    """Write `SHA256SUMS` with the hash of every other file, in the format of `sha256sum -c`."""
    lines = [f"{sha256_of(folder / name)}  {name}\n" for name in _files_below(folder)]
    write_text(folder / SUMS_NAME, "".join(lines))


def misfit(folder: Path) -> str | None:
    """Return the first difference between the files and `SHA256SUMS` in words, or None.

    A file may be a link to a regular file, as in a download cache; its contents are hashed. A link
    to a folder is refused, because `SHA256SUMS` does not list the files below it.

    Raises:
        ModelFileError: `SHA256SUMS` is missing, or has another format.
    """
    sums = _read_sums(folder)
    found = _files_below(folder)
    for name in found:
        if (folder / name).is_symlink() and (folder / name).is_dir():
            return f"{name} is a link to a folder, which a bundle must not hold"
    for name, digest in sums.items():
        if fault := _fault(folder / name, name, digest):
            return fault
    return next((f"{name} is not in {SUMS_NAME}" for name in found if name not in sums), None)


def foreign_file(folder: Path) -> str | None:
    """Return the first file in a bundle that `SHA256SUMS` does not list, or None."""
    own = {MANIFEST_NAME}
    with suppress(ModelFileError):  # without `SHA256SUMS` only the manifest is known
        own |= _read_sums(folder).keys()
    return next((name for name in _files_below(folder) if name not in own), None)


def _fault(path: Path, name: str, digest: str) -> str | None:
    if not is_own_file(path):
        return f"{name} is missing, or no plain file"
    try:
        found = sha256_of(path)
    except OSError as error:
        return f"{name} cannot be read ({reason_of(error)})"
    if found != digest:
        return f"{name} is not the file that was packaged (its SHA-256 differs)"
    return None


def copy_file(source: Path, target: Path) -> None:
    """Copy a file's contents but not its mode, so that a bundle's bytes and modes are the same."""
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)
    target.chmod(0o644)


def _read_sums(folder: Path) -> dict[str, str]:
    path = folder / SUMS_NAME
    try:
        lines = read_own_text(folder, SUMS_NAME).splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ModelFileError(f"{folder}: {SUMS_NAME} cannot be read; is this a bundle?") from error
    sums = {}
    for line in lines:
        digest, gap, name = line[:_HASH_LENGTH], line[_HASH_LENGTH : _HASH_LENGTH + 2], line[66:]
        if gap != "  " or not name:
            raise ModelFileError(f"{path}: expected lines of a hash and a name, got {brief(line)}")
        check_inside(name)
        sums[name] = digest
    return sums


def _files_below(folder: Path) -> list[str]:
    """Return all files except `SHA256SUMS`, sorted, with forward slashes.

    Links to folders are among them and are not followed.
    """
    found = []
    for current, folders, names in os.walk(folder):
        links = [name for name in folders if Path(current, name).is_symlink()]
        found += [Path(current, name).relative_to(folder).as_posix() for name in names + links]
    return sorted(name for name in found if name != SUMS_NAME)
