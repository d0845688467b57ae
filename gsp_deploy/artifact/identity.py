"""Identify a model by one hash of all its files.

1. A file on its own has the SHA-256 of its bytes.
2. A model of several files has the SHA-256 of their hashes and names. Examples: a graph with the
   files of its weights, an engine with its manifest.
3. A bundle has the SHA-256 of its `SHA256SUMS`; `verify` compares every file with that list.

The model's own file name does not count: a renamed model is the same model.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from gsp_deploy.artifact.external_data import external_data_of
from gsp_deploy.artifact.kind import BUNDLE, ENGINE, ONNX, kind_of
from gsp_deploy.base.files import sha256_of

SUMS_NAME = "SHA256SUMS"
_MANIFEST = "manifest"


def identity(model: str | os.PathLike[str]) -> str:
    """Return the hash of all files of a model, in hexadecimal.

    Raises:
        ModelFileError: the graph is damaged, or a file that it names is missing or outside.
        OSError: a file cannot be read.
    """
    path = Path(model)
    parts = _parts(path)
    own = sha256_of(path / SUMS_NAME if kind_of(path) is BUNDLE else path)
    if not parts:
        return own
    lines = [own, *(f"{sha256_of(file)}  {name}" for name, file in sorted(parts.items()))]
    text = "".join(f"{line}\n" for line in lines)
    return hashlib.sha256(text.encode("utf-8", errors="surrogateescape")).hexdigest()


def weight_files(model: str | os.PathLike[str]) -> tuple[Path, ...]:
    """Return the files beside a model that contain its weights; copy them together with it.

    Raises:
        ModelFileError: the graph is damaged, or a file that it names is missing or outside.
    """
    path = Path(model)
    return external_data_of(path) if kind_of(path) is ONNX else ()


def _parts(path: Path) -> dict[str, Path]:
    """Return the model's other files, by name."""
    if kind_of(path) is ENGINE:
        manifest = path.with_name(path.name + ".json")
        return {_MANIFEST: manifest} if manifest.is_file() else {}
    return {file.relative_to(path.parent).as_posix(): file for file in weight_files(path)}
