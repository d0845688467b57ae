"""Tar files of images, such as the shards of WebDataset, read from start to end.

Every member with the suffix of an image is an image; all others (labels, captions, links) are
passed over, and so are hidden members and those in folders that a walk leaves out. An image's id is
the tar's name, a slash, and the member's name.
"""

from __future__ import annotations

import lzma
import tarfile
import zlib
from collections.abc import Collection, Iterator
from pathlib import PurePosixPath

from gsp_deploy.errors import SourceError, reason_of
from gsp_deploy.images.decoding import shown_name
from gsp_deploy.images.formats import readable_suffixes
from gsp_deploy.images.limits import MAX_FILE_BYTES
from gsp_deploy.images.walking import is_left_out, reason_to_pass
from gsp_deploy.sources.records import Columns, FileEntry, Record
from gsp_deploy.sources.stores import is_remote, reading

TAR_SUFFIXES = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")


def read_tar(file: FileEntry, columns: Columns, skip: int = 0) -> Iterator[Record]:
    """Yield the images of a tar file from number `skip` on.

    Raises:
        SourceError: the file cannot be read, or is damaged.
    """
    suffixes = readable_suffixes()
    plain = file.location.lower().endswith(".tar") and not is_remote(file.location)
    with reading(file.location) as stream:
        try:
            # A plain file on this machine can seek past the members that are skipped.
            with tarfile.open(fileobj=stream, mode="r:" if plain else "r|*") as archive:
                while (member := archive.next()) is not None:
                    # tarfile would keep every member in memory
                    archive.members = []  # type: ignore[attr-defined]
                    if not member.isreg() or not _is_image(member.name, suffixes):
                        continue
                    if skip:
                        skip -= 1
                        continue
                    yield _record(archive, member, file)
        except (tarfile.TarError, EOFError, ValueError, zlib.error, lzma.LZMAError) as error:
            raise SourceError(
                f"{shown_name(file.location)}: not a whole tar file ({reason_of(error)}); make or "
                "fetch it again"
            ) from error


def _is_image(member: str, suffixes: Collection[str]) -> bool:
    *folders, name = PurePosixPath(member).parts
    return reason_to_pass(name, suffixes) is None and not any(map(is_left_out, folders))


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
