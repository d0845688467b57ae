"""Turn arguments into files, one by one, in an order that is the same every time.

An argument is a folder, a file, a glob pattern, a list of paths, or a container of images; each
may be a URL. Folders are walked by the rules of `gsp_deploy.images.walking`. A folder gives its
image files; name tar files and tables in it by a pattern, such as `shards/*.tar`.
"""

from __future__ import annotations

import glob
import os
import posixpath
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

from gsp_deploy.errors import DataError, UsageError
from gsp_deploy.images.decoding import shown_name
from gsp_deploy.images.formats import readable_suffixes
from gsp_deploy.images.patterns import Listed, Pattern, nothing_matched
from gsp_deploy.images.walking import (
    NOT_REGULAR,
    PassedOver,
    Survey,
    is_left_out,
    reason_to_pass,
    survey_images,
)
from gsp_deploy.sources.containers import container_kind
from gsp_deploy.sources.lists import read_csv, read_list
from gsp_deploy.sources.records import Columns, FileEntry
from gsp_deploy.sources.stores import (
    is_folder,
    is_remote,
    is_web_page,
    list_folder,
    stamp_of,
)

_LISTS: dict[str, Callable[[str, Columns], Iterator[FileEntry]]] = {
    ".txt": read_list,
    ".lst": read_list,
    ".csv": read_csv,
    ".tsv": read_csv,
}


class Listing:
    """The files of some arguments; iterate to get them.

    Attributes:
        passed_over: counts of what was skipped so far.
    """

    def __init__(self, arguments: list[str], columns: Columns) -> None:
        self._arguments, self._columns = arguments, columns
        self._surveys: dict[str, Survey] = {}
        self.passed_over = PassedOver()

    def __iter__(self) -> Iterator[FileEntry]:
        """Yield image files and containers.

        Raises:
            UsageError: an argument does not exist.
            DataError: a pattern matches nothing, or a folder cannot be searched.
            SourceError: a store refuses.
        """
        self.passed_over = PassedOver()
        for argument in self._arguments:
            yield from self._expand(argument)

    def _expand(self, argument: str) -> Iterator[FileEntry]:
        if read := _LISTS.get(suffix_of(argument)):
            if stamp_of(argument):
                yield from read(argument, self._columns)
                return
        elif is_folder(argument):
            yield from self._folder(argument)
            return
        elif stamp := stamp_of(argument):
            yield FileEntry(_id(argument), argument, stamp)
            return
        if not glob.has_magic(argument):
            raise UsageError(f"{shown_name(argument)}: no such file or folder")
        yield from self._pattern(argument)

    def _folder(self, folder: str) -> Iterator[FileEntry]:
        if is_remote(folder):
            yield from self._remote_folder(folder)
            return
        survey = self._surveys.get(folder) or survey_images(folder, readable_suffixes())
        self._surveys[folder] = survey  # who iterates again needs no second survey
        self.passed_over += survey.passed_over
        for file in survey.files():
            yield FileEntry(file.as_posix(), os.fspath(file), stamp_of(os.fspath(file)))

    def _remote_folder(self, folder: str) -> Iterator[FileEntry]:
        """Walk a store's folder as a folder of this machine is walked; a store has no links."""
        for entry in _existing(folder):
            if not entry.is_folder:
                yield from self._image(entry)
            elif is_left_out(entry.name):
                self.passed_over += PassedOver(folders={entry.name: 1})
            else:
                yield from self._remote_folder(entry.location)

    def _pattern(self, pattern: str) -> Iterator[FileEntry]:
        found = Pattern(pattern, _listed_if_there, None) if is_remote(pattern) else Pattern(pattern)
        matched = False
        for entry in found:
            matched = True
            if entry.is_folder:
                yield from self._folder(entry.location)
            else:
                yield from self._image(entry, containers=True)
        if not matched:
            raise DataError(nothing_matched(shown_name(pattern), found.passed_over))
        self.passed_over += found.passed_over

    def _image(self, entry: Listed, containers: bool = False) -> Iterator[FileEntry]:
        reason = reason_to_pass(entry.name, readable_suffixes())
        if containers and container_kind(entry.name) and not entry.name.startswith("."):
            reason = None
        if reason is None and not is_remote(entry.location) and not os.path.isfile(entry.location):
            reason = NOT_REGULAR
        if reason is not None:
            self.passed_over += PassedOver(files={reason: 1})
            return
        stamp = entry.stamp or stamp_of(entry.location)
        yield FileEntry(_id(entry.location), entry.location, stamp)


def suffix_of(name: str) -> str:
    """Return the suffix of a path or URL in lower case, without a URL's query.

    >>> suffix_of("https://host/a.CSV?key=1"), suffix_of("photos/a.b.jpg")
    ('.csv', '.jpg')
    """
    path = urlsplit(name).path if is_web_page(name) else name
    return posixpath.splitext(path)[1].lower()


def _existing(folder: str) -> list[Listed]:
    try:
        return list_folder(folder)
    except FileNotFoundError as error:
        raise UsageError(f"{shown_name(folder)}: no such file or folder") from error


def _listed_if_there(folder: str) -> list[Listed]:
    try:
        return list_folder(folder)
    except (FileNotFoundError, NotADirectoryError):
        return []


def _id(location: str) -> str:
    return location if is_remote(location) else Path(location).as_posix()
