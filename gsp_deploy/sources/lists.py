"""Lists of image files: text with one path or URL per line, and CSV with a column of them.

A relative path starts at the list's own folder.
"""

from __future__ import annotations

import csv
import os
import posixpath
from collections.abc import Iterator, Sequence

from gsp_deploy.errors import SourceError, UsageError, brief
from gsp_deploy.images.decoding import shown_name
from gsp_deploy.sources.records import Columns, FileEntry
from gsp_deploy.sources.stores import is_remote, reading, stamp_of, text_of

_PATHS = ("path", "file", "filename", "file_name", "image", "image_path", "url")


def read_list(name: str, columns: Columns) -> Iterator[FileEntry]:
    """Yield the files of a text with one path or URL per line; empty lines do not count.

    Raises:
        SourceError: the list cannot be read.
    """
    with reading(name) as stream:
        for line in text_of(stream, name):
            if path := line.rstrip("\r\n"):
                yield entry_beside(name, path)


def read_csv(name: str, columns: Columns) -> Iterator[FileEntry]:
    """Yield the files of a CSV or TSV whose first line names its columns.

    Raises:
        UsageError: the file has no such column, or several.
        SourceError: the file cannot be read, or a line lacks the image or the id.
    """
    with reading(name) as stream:
        delimiter = "\t" if name.lower().endswith(".tsv") else ","
        rows = csv.DictReader(text_of(stream, name), delimiter=delimiter)
        names = list(rows.fieldnames or ())
        image = columns.image or the_only([n for n in names if n.lower() in _PATHS], name)
        if image not in names or (columns.id is not None and columns.id not in names):
            wanted = (columns.id if image in names else columns.image) or " or ".join(_PATHS)
            raise UsageError(
                f"{shown_name(name)}: expected a column {wanted}, got {brief(', '.join(names))}; "
                "name the columns with --image-column and --id-column"
            )
        for row in rows:
            if not row[image]:
                raise SourceError(f"{shown_name(name)}: line {rows.line_num} names no image")
            found = entry_beside(name, row[image])
            if columns.id is None:
                yield found
            elif row[columns.id]:
                yield FileEntry(row[columns.id], *_rest(found))
            else:
                raise SourceError(f"{shown_name(name)}: line {rows.line_num} has no id")


def the_only(candidates: Sequence[str], name: str) -> str | None:
    """Return the only column that may contain the images of a table; None if there is none.

    Raises:
        UsageError: there are several.
    """
    if len(candidates) > 1:
        raise UsageError(
            f"{shown_name(name)}: expected one column of images, got {brief(', '.join(candidates))}"
            "; choose one with --image-column"
        )
    return next(iter(candidates), None)


def entry_beside(listing: str, path: str) -> FileEntry:
    """Return the entry of a path that is in a list; files on this machine get their stamp."""
    if is_remote(path):
        return FileEntry(path, path, "")
    if is_remote(listing):
        url = path if path.startswith("/") else posixpath.join(posixpath.dirname(listing), path)
        return FileEntry(url, url, "")
    location = os.path.join(os.path.dirname(listing), path)
    return FileEntry(location.replace(os.sep, "/"), location, stamp_of(location))


def _rest(entry: FileEntry) -> tuple[str, str]:
    return entry.location, entry.stamp
