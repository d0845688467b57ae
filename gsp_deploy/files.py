"""Files that appear whole or not at all, and the hashes that manifests carry."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from gsp_deploy.errors import GspDeployError, UsageError


def refuse_overwrite(path: Path, force: bool) -> None:
    """Raise `UsageError` when `path` exists and `force` was not given."""
    if path.exists() and not force:
        raise UsageError(f"{path} exists; pass --force to replace it, or choose another name")


@contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a temporary path beside `path`, moved onto it when the block ends without an error.

    A crash, a full disk or an interrupt leaves the old file as it was and no partial new one.
    """
    target = Path(path)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{target.name}.", dir=target.parent) as folder:
            temporary = Path(folder) / target.name
            yield temporary
            _flush_to_disk(temporary)
            os.replace(temporary, target)
    except OSError as error:
        reason = error.strerror or str(error)
        raise GspDeployError(
            f"cannot write {target}: {reason}; nothing was replaced, "
            "free some space or choose another place"
        ) from error


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """Write `text` as UTF-8, whole or not at all."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def sha256_of(path: str | os.PathLike[str]) -> str:
    """Return the SHA-256 of a file's bytes, in hexadecimal."""
    with open(path, "rb") as stream:
        digest = hashlib.sha256()
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _flush_to_disk(path: Path) -> None:
    with open(path, "rb") as stream:
        os.fsync(stream.fileno())
