"""Cut sources into numbered slices, which workers can read independently.

A container (a tar file, a table) is a slice of its own; image files are cut into slices of one
size. The numbers follow the order of the arguments, so they depend on nothing but the listing.
"""

from __future__ import annotations

import hashlib
import json
import posixpath
from collections.abc import Iterable, Iterator
from dataclasses import astuple, dataclass
from itertools import islice

from gsp_deploy.errors import DataError, SourceError
from gsp_deploy.images.decoding import shown_name
from gsp_deploy.images.formats import readable_suffixes
from gsp_deploy.images.walking import PassedOver
from gsp_deploy.sources.containers import container_kind, reader_of
from gsp_deploy.sources.listing import Listing
from gsp_deploy.sources.records import FOUND_BY_TYPE, Columns, FileEntry, Record
from gsp_deploy.sources.stores import is_remote, stamp_of
from gsp_deploy.sources.tars import Report


@dataclass(frozen=True)
class Slice:
    """Some image files, or one container.

    Attributes:
        number: its place among the slices, from 0.
        files: the image files, or the container alone.
        columns: the columns of a table.
    """

    number: int
    files: tuple[FileEntry, ...]
    columns: Columns = FOUND_BY_TYPE

    @property
    def is_container(self) -> bool:
        """Whether it is one file with many images, whose number nobody knows before the end."""
        return len(self.files) == 1 and container_kind(self.files[0].location) is not None

    @property
    def key(self) -> str:
        """A SHA-256 over the files' names, sizes and times; a changed source changes it."""
        listed = [astuple(file) for file in self.files]
        return hashlib.sha256(json.dumps(listed).encode()).hexdigest()

    def records(self, skip: int = 0, report: Report = lambda _: None) -> Iterator[Record]:
        """Yield the images from number `skip` on.

        At the end of a tar file, call `report` with the counts of all members that are no images.

        Raises:
            UsageError: a table has no column of images.
            SourceError: the source cannot be read.
        """
        kind = container_kind(self.files[0].location)
        if self.is_container and kind is not None:
            yield from reader_of(kind, report)(self.files[0], self.columns, skip)
            return
        for file in islice(self.files, skip, None):
            yield Record(file.id, posixpath.dirname(file.location), location=file.location)

    def check_unchanged(self) -> None:
        """Raise `SourceError` if a file has changed since it was listed.

        Image files in object stores are not looked up again, because each would cost a request.
        """
        for file in self.files:
            if is_remote(file.location) and not self.is_container:
                continue
            if stamp_of(file.location) != file.stamp:
                raise SourceError(
                    f"{shown_name(file.location)} changed during the run; finished parts stay "
                    "valid: run the same command again when the source is at rest"
                )


class Sources:
    """The slices of some arguments; iterate to get them, once or several times.

    Args:
        arguments: folders, files, patterns, lists, containers, or URLs of them.
        size: image files in a slice.
        columns: the columns of tables.

    Attributes:
        arguments, columns: as given.
        listing: the files behind the slices; it counts what was passed over.
    """

    def __init__(
        self, arguments: Iterable[str], size: int, columns: Columns = FOUND_BY_TYPE
    ) -> None:
        self.arguments = tuple(arguments)
        self.columns = columns
        self._size = size
        self.listing = Listing(list(self.arguments), columns)

    def __iter__(self) -> Iterator[Slice]:
        """Yield the slices in order.

        Raises:
            UsageError: an argument does not exist.
            DataError: there is no image in any argument, or a pattern matches nothing.
            SourceError: a store refuses.
        """
        number = 0
        gathered: list[FileEntry] = []
        for file in self._each_once():
            is_container = container_kind(file.location) is not None
            if gathered and (is_container or len(gathered) == self._size):
                yield Slice(number, tuple(gathered), self.columns)
                number += 1
                gathered.clear()
            if is_container:
                yield Slice(number, (file,), self.columns)
                number += 1
            else:
                gathered.append(file)
        if gathered:
            yield Slice(number, tuple(gathered), self.columns)
        elif not number:
            raise self.nothing_found()

    def _each_once(self) -> Iterator[FileEntry]:
        """Yield every file once, though several arguments may contain it.

        One argument lists no file twice, so that a hash of each name is only kept for several.
        """
        if len(self.arguments) == 1:
            yield from self.listing
            return
        seen: set[int] = set()
        for file in self.listing:
            digest = hashlib.blake2b(
                file.location.encode("utf-8", "surrogateescape"), digest_size=8
            ).digest()
            if (name := int.from_bytes(digest, "big")) not in seen:
                seen.add(name)
                yield file

    def nothing_found(self, members: PassedOver | None = None) -> DataError:
        """Return the error of sources without an image; a tar file or a table may be empty too.

        Args:
            members: counts of what was passed over in tar files.
        """
        passed_over = self.listing.passed_over + (members or PassedOver())
        names = ", ".join(map(shown_name, self.arguments)) or "nothing"
        return DataError(
            f"no image in {names} (suffixes: {', '.join(sorted(readable_suffixes()))})"
            f"{f'; {passed_over}' if passed_over else ''}; name tar files and tables by a "
            "pattern, as in 'shards/*.tar'"
        )
