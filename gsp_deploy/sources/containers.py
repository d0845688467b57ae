"""The kinds of files that contain many images, and the reader of each."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Literal

from gsp_deploy.errors import MissingCapabilityError
from gsp_deploy.sources.records import Columns, FileEntry, Record
from gsp_deploy.sources.tars import TAR_SUFFIXES, Report, read_tar

ContainerKind = Literal["tar", "parquet", "arrow"]
ContainerReader = Callable[[FileEntry, Columns, int], Iterator[Record]]

_SUFFIXES: dict[str, ContainerKind] = {
    **dict.fromkeys(TAR_SUFFIXES, "tar"),
    ".parquet": "parquet",
    ".arrow": "arrow",
    ".feather": "arrow",
}


def container_kind(name: str) -> ContainerKind | None:
    """Return the kind of container that a file is by its name; None for other files.

    >>> container_kind("shard-000.tar"), container_kind("a.jpg")
    ('tar', None)
    """
    path = name.partition("?")[0].lower()
    return next((kind for suffix, kind in _SUFFIXES.items() if path.endswith(suffix)), None)


def reader_of(kind: ContainerKind, report: Report) -> ContainerReader:
    """Return the function that reads a container's images from a given number on.

    It calls `report` at the end of a tar file, whose members need not be images.

    Raises:
        MissingCapabilityError: a table needs pyarrow, which is not installed.
    """
    if kind == "tar":
        return partial(read_tar, report=report)
    try:
        from gsp_deploy.sources.tables import read_arrow, read_parquet
    except ModuleNotFoundError as error:
        raise MissingCapabilityError(
            "reading Parquet and Arrow tables needs pyarrow: pip install pyarrow"
        ) from error
    return read_parquet if kind == "parquet" else read_arrow
