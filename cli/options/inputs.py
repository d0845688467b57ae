"""Check paths that a command reads, before it starts, with the same messages everywhere.

These are callbacks for Typer's arguments and options. They take one path, several or none, and
return them unchanged.

Raises:
    UsageError: the path does not exist, is not readable, or is a folder and not a file.
"""

from __future__ import annotations

import errno
import glob
import os
import stat
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar, get_args

from gsp_deploy.base.choices import VectorServer
from gsp_deploy.base.inputs import NotRegularError, require_regular
from gsp_deploy.base.scratch import settle
from gsp_deploy.errors import UsageError

Given = TypeVar("Given", bound="str | Path | Iterable[str | Path] | None")


def existing_file(given: Given) -> Given:
    """Check one file, or each of several."""
    for path in _each(given):
        check_readable(path)
        if path.is_dir():
            raise UsageError(f"{path}: expected a file, and this is a folder")
    return given


def existing_model_or_embeddings(given: Given) -> Given:
    """Check files, or folders that contain a finished data set of embeddings."""
    from gsp_deploy.retrieval.stored import holds_embeddings

    for path in _each(given):
        check_readable(path)
        if path.is_dir() and not holds_embeddings(path):
            raise UsageError(
                f"{path}: expected a file, and this is a folder without the manifest of a data set"
            )
    return given


def existing_path(given: Given) -> Given:
    """Check files or folders."""
    for path in _each(given):
        check_readable(path)
    return given


def existing_images(given: Given) -> Given:
    """Check files or folders; a glob pattern may match none."""
    for path in _each(given):
        if path.exists() or not glob.has_magic(str(path)):
            check_readable(path)
    return given


def existing_sources(given: list[str]) -> list[str]:
    """Check sources of images on this machine as `existing_images` does; URLs are left alone."""
    existing_images([source for source in given if "://" not in source])
    return given


def existing_index(given: str) -> str:
    """Check the folder of an index; a collection on a vector server is left alone."""
    if given.partition(":")[0] not in get_args(VectorServer):
        check_readable(Path(given))
    return given


def existing_data(given: Given) -> Given:
    """Check the path in the spec of a data set, if it has one."""
    from gsp_deploy.data import path_of

    for spec in _each(given):
        if (path := path_of(str(spec))) is not None:
            check_readable(path)
    return given


@dataclass(frozen=True)
class ModelAndImages:
    """A model, and images to embed with it."""

    model: Path
    images: list[str]


@dataclass(frozen=True)
class StoredEmbeddings:
    """Embeddings that exist, and their model if the command names it."""

    path: Path
    model: Path | None


def named_source(sources: list[str], model: Path | None) -> ModelAndImages | StoredEmbeddings:
    """Return what a command names: a model and its images, or one set of embeddings.

    Args:
        sources: a model and images, a set of embeddings, or a model and a set of embeddings.
        model: what `--model` names: the model of the embeddings.

    Raises:
        UsageError: the sources are none of these.
    """
    from gsp_deploy.artifact.kind import kind_of
    from gsp_deploy.retrieval.stored import SUFFIXES, holds_embeddings

    first = Path(sources[0])
    if len(sources) > 1:
        if model is not None:
            raise UsageError("--model belongs to embeddings; for images, name the model first")
        if len(sources) == 2 and holds_embeddings(Path(sources[1])):
            return StoredEmbeddings(Path(sources[1]), existing_file(first))
        return ModelAndImages(existing_file(first), sources[1:])
    if first.is_file() and first.suffix not in SUFFIXES:
        kind_of(first)
        raise UsageError(f"{first} is a model; name the images to index after it")
    return StoredEmbeddings(first, model)


def check_readable(path: Path) -> None:
    """Raise `UsageError`, saying why, unless the path is a readable file or folder."""
    settle(path)
    try:
        mode = path.stat().st_mode
    except FileNotFoundError as error:
        raise UsageError(f"{path}: no such file or folder") from error
    except OSError as error:
        raise UsageError(f"{path}: cannot be read: {error.strerror}") from error
    if not stat.S_ISDIR(mode):
        try:
            require_regular(path)
        except NotRegularError as error:
            raise UsageError(f"{path}: {error.strerror}") from error
    entering = os.X_OK if stat.S_ISDIR(mode) else 0
    if not os.access(path, os.R_OK | entering):
        raise UsageError(f"{path}: cannot be read: {os.strerror(errno.EACCES)}")


def _each(given: str | Path | Iterable[str | Path] | None) -> list[Path]:
    if given is None:
        return []
    return [Path(item) for item in ([given] if isinstance(given, (str, Path)) else given)]
