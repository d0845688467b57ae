"""Write file names as valid Unicode, so that JSON, Parquet and every reader of them take them.

A name on Linux is any bytes. Python gives bytes that are not UTF-8 as lone surrogates, which UTF-8
cannot hold and most readers of JSON refuse.
"""

from __future__ import annotations

import os
from typing import Any
from urllib.parse import quote_from_bytes, unquote_to_bytes

from gsp_deploy.errors import UsageError

_PREFIX = "bytes:"


def as_text(name: str) -> str:
    """Return a name as valid Unicode; `from_text` returns the name again.

    UTF-8 names stay as they are. Any other becomes `bytes:` and its percent-encoded bytes, and so
    does a name that starts with `bytes:`, so that no two names become the same.

    >>> as_text("caf\\udce9.png")
    'bytes:caf%E9.png'
    """
    if is_valid(name) and not name.startswith(_PREFIX):
        return name
    return _PREFIX + quote_from_bytes(name.encode("utf-8", "surrogateescape"))


def from_text(text: str) -> str:
    """Return the name that `as_text` wrote, as Python's file functions take it.

    >>> ascii(from_text("bytes:caf%E9.png"))
    "'caf\\\\udce9.png'"
    """
    if not text.startswith(_PREFIX):
        return text
    return os.fsdecode(unquote_to_bytes(text.removeprefix(_PREFIX)))


def names_as_text(value: Any) -> Any:
    """Return JSON-able data with every text as `as_text` writes it.

    >>> names_as_text({"files": ("a.png", "caf\\udce9.png"), "count": 2})
    {'files': ['a.png', 'bytes:caf%E9.png'], 'count': 2}
    """
    if isinstance(value, str):
        return as_text(value)
    if isinstance(value, dict):
        return {names_as_text(key): names_as_text(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [names_as_text(item) for item in value]
    return value


def require_utf8(path: str | os.PathLike[str]) -> None:
    """Raise `UsageError` unless UTF-8 can hold a path, for libraries that open no other."""
    name = os.fspath(path)
    if not is_valid(name):
        raise UsageError(
            f"expected a path in UTF-8, got {name!a}; rename it, or run the command in that "
            "folder and name the file alone"
        )


def is_valid(text: str) -> bool:
    """Whether UTF-8 can hold a text: it has no lone surrogate."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
