"""Open and list files on this machine and in object stores, with one line for each refusal.

A name with `://` is a URL, which `fsspec` opens: `s3://`, `gs://`, `az://`, `https://` and others.
Credentials and endpoints come from the environment, as each store's own client reads them.
"""

from __future__ import annotations

import io
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, BinaryIO

from gsp_deploy.base.inputs import NotRegularError, open_regular
from gsp_deploy.base.platforms import install_line
from gsp_deploy.errors import (
    DataError,
    GspDeployError,
    MissingCapabilityError,
    SourceError,
    flattened,
)
from gsp_deploy.images.decoding import shown_name
from gsp_deploy.images.limits import MAX_FILE_BYTES
from gsp_deploy.images.patterns import Listed

_URL = re.compile(r"([a-zA-Z][a-zA-Z0-9+.-]+)://")
# What the stores call an object's version, the best first; else its time of change.
_TAGS = (
    "ETag", "etag", "content_md5", "md5Hash", "mtime", "LastModified", "last_modified", "created",
)  # fmt: skip


def is_remote(name: str) -> bool:
    """Whether a name is a URL.

    >>> is_remote("s3://bucket/a.tar"), is_remote("photos/a.jpg")
    (True, False)
    """
    return _URL.match(name) is not None


def is_web_page(name: str) -> bool:
    """Whether a name is an address of the web, which has no folders to list."""
    return name.lower().startswith(("http://", "https://"))


@contextmanager
def refusals(name: str) -> Iterator[None]:
    """Turn every error of a store in the block into one line that names the source.

    Raises:
        SourceError: the store refuses or cannot be reached.
        MissingCapabilityError: the package for this kind of store is not installed.
    """
    shown = shown_name(name)
    try:
        yield
    except GspDeployError:
        raise
    except FileNotFoundError as error:
        cause = error.__cause__
        if not is_web_page(name) or cause is None or _is_absence(cause):
            raise
        raise SourceError(f"{shown}: cannot be read ({flattened(cause)})") from error
    except PermissionError as error:
        raise SourceError(
            f"{shown}: access denied ({flattened(error)}); check the credentials and the "
            "permissions"
        ) from error
    except ImportError as error:
        raise MissingCapabilityError(
            f"{shown}: {flattened(error)}: {install_line('cloud')}"
        ) from error
    except NotRegularError as error:
        raise SourceError(f"{shown}: {error.strerror}") from error
    except Exception as error:  # each store's client has its own types
        raise SourceError(f"{shown}: cannot be read ({flattened(error)})") from error


def stamp_of(name: str) -> str:
    """Return a file's size and time, or its tag in an object store; empty if there is no file.

    Raises:
        SourceError: the store refuses.
    """
    try:
        with refusals(name):
            if not is_remote(name):
                return _local_stamp(os.stat(name))
            store, path = _store(name)
            return _remote_stamp(store.info(path))
    except FileNotFoundError:
        return ""


def is_folder(name: str) -> bool:
    """Whether a path or URL is a folder; raises as `stamp_of` does."""
    if is_web_page(name):
        return False
    if not is_remote(name):
        return os.path.isdir(name)
    with refusals(name):
        store, path = _store(name)
        return store.isdir(path)


def list_folder(folder: str) -> list[Listed]:
    """Return the entries of a folder in a store, sorted by name.

    Raises:
        SourceError: the store refuses.
        FileNotFoundError: there is no such folder.
    """
    with refusals(folder):
        return sorted(_list_remote(folder), key=lambda entry: entry.name)


def open_source(name: str) -> BinaryIO:
    """Open a file to read its bytes from the start.

    Raises:
        SourceError: the store refuses.
        FileNotFoundError: there is no such file.
    """
    with refusals(name):
        if not is_remote(name):
            return open_regular(name)
        store, path = _store(name)
        return store.open(path, "rb")


@contextmanager
def reading(name: str) -> Iterator[BinaryIO]:
    """Yield a file's stream; a file that is missing, and every refusal, is a `SourceError`."""
    try:
        with open_source(name) as stream, refusals(name):
            yield stream
    except FileNotFoundError as error:
        raise SourceError(f"{shown_name(name)}: no such file") from error


def read_file(url: str) -> bytes:
    """Return the bytes of one image in a store.

    Raises:
        DataError: the file is missing or too large; the other images may still be readable.
        SourceError: the store refuses or cannot be reached.
    """
    try:
        with open_source(url) as stream, refusals(url):
            content = stream.read(MAX_FILE_BYTES + 1)
    except FileNotFoundError as error:
        raise DataError(f"{shown_name(url)}: no such file") from error
    if len(content) > MAX_FILE_BYTES:
        raise DataError(f"{shown_name(url)}: the file has more than {MAX_FILE_BYTES:,} bytes")
    return content


def text_of(stream: BinaryIO, name: str) -> io.TextIOWrapper:
    """Return a stream's text, UTF-8 with or without a byte order mark, line by line.

    A file name that is not UTF-8 keeps its bytes.
    """
    return io.TextIOWrapper(stream, encoding="utf-8-sig", errors="surrogateescape", newline="")


def _is_absence(cause: BaseException) -> bool:
    """Whether a web page is really absent: fsspec calls every refusal and silence an absence."""
    return isinstance(cause, FileNotFoundError) or getattr(cause, "status", None) == 404


def _store(url: str) -> tuple[Any, str]:
    try:
        from fsspec.core import url_to_fs
    except ModuleNotFoundError as error:
        raise MissingCapabilityError(
            f"{shown_name(url)}: reading URLs needs fsspec: {install_line('cloud')}"
        ) from error
    # A cached listing would hide a change, and would keep every name of a bucket in memory.
    return url_to_fs(url, use_listings_cache=False)


def _list_remote(folder: str) -> list[Listed]:
    store, path = _store(folder)
    found = []
    for info in store.ls(path, detail=True):
        location = info["name"].rstrip("/")
        if location.strip("/") == path.strip("/"):  # some stores list the folder's own marker
            continue
        name = location.rsplit("/", 1)[-1]
        stamp = "" if info["type"] == "directory" else _remote_stamp(info)
        url = store.unstrip_protocol(location)
        found.append(Listed(name, url, info["type"] == "directory", stamp))
    return found


def _local_stamp(found: os.stat_result) -> str:
    return f"{found.st_size} {found.st_mtime_ns}"


def _remote_stamp(info: dict[str, Any]) -> str:
    tag = next((info[name] for name in _TAGS if info.get(name)), "")
    tag = tag.timestamp() if hasattr(tag, "timestamp") else tag
    return f"{info.get('size')} {tag}"
