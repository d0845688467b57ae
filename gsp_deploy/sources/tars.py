"""Tar files of images, such as the shards of WebDataset, read from start to end.

Every member with the suffix of an image is an image; all others (labels, captions, links) are
passed over and counted, and so are hidden members and those in folders that a walk leaves out. An
image's id is the tar's name, a slash, and the member's name.
"""

from __future__ import annotations

import lzma
import tarfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import PurePosixPath

from gsp_deploy.errors import SourceError, reason_of
from gsp_deploy.images.decoding import shown_name
from gsp_deploy.images.formats import readable_suffixes
from gsp_deploy.images.limits import MAX_FILE_BYTES
from gsp_deploy.images.walking import HIDDEN, PassedOver, is_left_out, reason_to_pass
from gsp_deploy.sources.records import Columns, FileEntry, Record
from gsp_deploy.sources.stores import is_remote, reading

TAR_SUFFIXES = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")
# So that an archive of strange names has a short count too.
_MOST_WORDS = _LONGEST_WORD = 32
_LINK = "links or no regular files"
_OTHERS = "with other suffixes"

Report = Callable[[PassedOver], None]


def read_tar(
    file: FileEntry, columns: Columns, skip: int = 0, report: Report = lambda _: None
) -> Iterator[Record]:
    """Yield the images of a tar file from number `skip` on.

    Args:
        file: the tar file.
        columns: of tables; a tar file has none.
        skip: number of images to leave out.
        report: called at the end with the counts of the whole file, whatever `skip` is.

    Raises:
        SourceError: the file cannot be read, or is damaged.
    """
    passed_over: Counter[str] = Counter()
    plain = file.location.lower().endswith(".tar") and not is_remote(file.location)
    with reading(file.location) as stream:
        try:
            # A plain file on this machine can seek past the members that are skipped.
            with tarfile.open(fileobj=stream, mode="r:" if plain else "r|*") as archive:
                for member in _images(archive, passed_over):
                    if skip:
                        skip -= 1
                        continue
                    yield _record(archive, member, file)
        except (tarfile.TarError, EOFError, ValueError, zlib.error, lzma.LZMAError) as error:
            raise SourceError(
                f"{shown_name(file.location)}: not a whole tar file ({reason_of(error)}); make or "
                "fetch it again"
            ) from error
    report(PassedOver(dict(passed_over)))


def _images(archive: tarfile.TarFile, passed_over: Counter[str]) -> Iterator[tarfile.TarInfo]:
    """Yield the members that are images, and count the others but for folders."""
    while (member := archive.next()) is not None:
        # tarfile would keep every member in memory
        archive.members = []  # type: ignore[attr-defined]
        if member.isdir():
            continue
        reason = _reason_to_pass(member.name) or (None if member.isreg() else _LINK)
        if reason is None:
            yield member
            continue
        is_new = reason not in passed_over
        if len(reason) > _LONGEST_WORD or (is_new and len(passed_over) >= _MOST_WORDS):
            reason = _OTHERS
        passed_over[reason] += 1


def _reason_to_pass(member: str) -> str | None:
    *folders, name = PurePosixPath(member).parts or ("",)
    for folder in filter(is_left_out, folders):
        return HIDDEN if folder.startswith(".") else f"in {folder}"
    return reason_to_pass(name, readable_suffixes())


def _record(archive: tarfile.TarFile, member: tarfile.TarInfo, file: FileEntry) -> Record:
    name = f"{file.id}/{member.name}"
    if member.size > MAX_FILE_BYTES:
        error = f"{member.size:,} bytes are beyond the limit of {MAX_FILE_BYTES:,}"
        return Record(name, file.id, error=error)
    stream = archive.extractfile(member)
    content = b"" if stream is None else stream.read()
    if len(content) != member.size:
        raise tarfile.ReadError("unexpected end of data")
    return Record(name, file.id, content=content)
