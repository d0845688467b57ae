"""The files of a bundle: names that stay inside it, hashes, and a folder that appears whole."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

from gsp_deploy.base.files import flush_to_disk, sha256_of, write_text
from gsp_deploy.base.scratch import scratch_beside
from gsp_deploy.errors import ModelFileError, UsageError, brief

SUMS_NAME = "SHA256SUMS"
_HASH_LENGTH = 64


def check_inside(name: object) -> None:
    """Raise `ModelFileError` for a name that a hostile bundle would lead us out of it by."""
    parts = name.split("/") if isinstance(name, str) else [""]
    outside = {"", ".", ".."}.intersection(parts) or "\\" in str(name) or ":" in str(name)
    if outside or PurePosixPath(str(name)).is_absolute():
        raise ModelFileError(f"expected the name of a file within the bundle, got {brief(name)}")


def read_own_text(folder: Path, name: str) -> str:
    """Return the text of a bundle's own file; a link is not followed, a device is not opened.

    Raises:
        OSError, UnicodeDecodeError: there is no such file, or it is no text.
    """
    path = folder / name
    if path.is_symlink() or not path.is_file():
        raise FileNotFoundError(errno.ENOENT, "no file of the bundle's own", str(path))
    return path.read_text(encoding="utf-8")


def write_sums(folder: Path) -> None:
    """Write `SHA256SUMS` over every other file, in the form that `sha256sum -c` reads."""
    lines = [f"{sha256_of(folder / name)}  {name}\n" for name in _files_below(folder)]
    write_text(folder / SUMS_NAME, "".join(lines))


def misfit(folder: Path) -> str | None:
    """Return the first thing about the files that is not as `SHA256SUMS` tells, or None.

    Files are opened only after their names were found harmless: links, and names that lead out
    of the folder, are never followed.

    Raises:
        ModelFileError: there is no `SHA256SUMS`, or it is not one.
    """
    sums = _read_sums(folder)
    for name, digest in sums.items():
        path = folder / name
        if any((folder / step).is_symlink() for step in _steps(name)):
            return f"{name} is a link, which a bundle must not hold"
        if not path.is_file():
            return f"{name} is missing"
        if sha256_of(path) != digest:
            return f"{name} is not the file that was packaged (its SHA-256 differs)"
    for name in _files_below(folder):
        if (folder / name).is_symlink():
            return f"{name} is a link, which a bundle must not hold"
        if name not in sums:
            return f"{name} is not in {SUMS_NAME}"
    return None


@contextmanager
def new_folder(folder: Path, *, force: bool, known_by: str, kind: str = "bundle") -> Iterator[Path]:
    """Yield an empty folder that becomes `folder` when the block ends without an error.

    Args:
        folder: what it will be called.
        force: replace a folder of that name, if it holds a file `known_by`.
        known_by: what tells a folder of ours, so that nothing else is ever deleted.
        kind: what such a folder is called.

    Raises:
        UsageError: it exists and is not to be replaced.
        OutputError: it cannot be written.
    """
    refuse_to_replace(folder, force, known_by, kind)
    with scratch_beside(folder) as outer:
        fresh = outer / "fresh"
        fresh.mkdir()
        yield fresh
        for name in _files_below(fresh):
            flush_to_disk(fresh / name)
        _replace_folder(fresh, folder, outer / "old")


def copy_file(source: Path, target: Path) -> None:
    """Copy contents alone: the bundle's modes do not depend on where its files came from."""
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)
    target.chmod(0o644)


def refuse_to_replace(folder: Path, force: bool, known_by: str, kind: str = "bundle") -> None:
    """Raise `UsageError` as `new_folder` would, before any work is done."""
    if not folder.exists() and not folder.is_symlink():
        return
    if folder.is_dir() and not folder.is_symlink():
        if not any(folder.iterdir()):
            return
        if (folder / known_by).is_file():
            if force:
                return
            raise UsageError(f"{folder} exists; pass --force to replace it, or choose another name")
    raise UsageError(f"{folder} exists and is no {kind}; choose another name")


def _replace_folder(fresh: Path, folder: Path, old: Path) -> None:
    existed = folder.exists()
    if existed:
        os.replace(folder, old)
    try:
        os.replace(fresh, folder)
    except OSError:
        if existed:
            os.replace(old, folder)
        raise


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


def _steps(name: str) -> Iterator[str]:
    """Yield `a`, `a/b`, `a/b/c`."""
    parts = name.split("/")
    for count in range(1, len(parts) + 1):
        yield "/".join(parts[:count])


def _files_below(folder: Path) -> list[str]:
    """Return all but the sums, links included and not followed, sorted, with forward slashes."""
    found = []
    for current, folders, names in os.walk(folder):
        links = [name for name in folders if Path(current, name).is_symlink()]
        found += [Path(current, name).relative_to(folder).as_posix() for name in names + links]
    return sorted(name for name in found if name != SUMS_NAME)
