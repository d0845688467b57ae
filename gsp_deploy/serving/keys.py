"""Read API keys from a file, and compare them in constant time."""

from __future__ import annotations

import hashlib
import hmac
import stat
import sys
from dataclasses import dataclass
from pathlib import Path

from gsp_deploy.errors import UsageError

SHORTEST_KEY = 16
LARGEST_FILE = 1 << 20
_BEARER = b"bearer "


@dataclass(frozen=True)
class ApiKeys:
    """The keys that a server accepts, as SHA-256 digests; without any, every client is allowed."""

    digests: tuple[bytes, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.digests)

    def who(self, headers: list[tuple[bytes, bytes]]) -> int | None:
        """Return the index of the key that a request carries, or None if it carries no valid one.

        The key comes as `Authorization: Bearer KEY` or as `X-API-Key: KEY`. Every key is compared
        in constant time, even if an earlier one was equal.
        """
        digest = hashlib.sha256(_key_in(headers)).digest()
        found = None
        for place, known in enumerate(self.digests):
            if hmac.compare_digest(digest, known):
                found = place
        return found


def read_api_keys(path: Path) -> tuple[ApiKeys, list[str]]:
    """Return the keys in a file, one per line, and warnings about the file.

    Blank lines, and lines that begin with #, are skipped.

    Raises:
        UsageError: the file cannot be read, has no key, or has one that is too short.
    """
    try:
        with path.open("rb") as file:
            content = file.read(LARGEST_FILE)
            mode = stat.S_IMODE(path.stat().st_mode)
    except OSError as error:
        raise UsageError(f"cannot read the API keys in {path}: {error.strerror}") from error
    lines = [line.strip() for line in content.splitlines()]
    keys = [line for line in lines if line and not line.startswith(b"#")]
    if not keys:
        raise UsageError(f"expected API keys in {path}, one a line, got none")
    if short := [number for number, key in enumerate(keys, 1) if not _is_key(key)]:
        raise UsageError(
            f"expected API keys of at least {SHORTEST_KEY} printable ASCII characters without "
            f"spaces in {path}, got another one as key {short[0]}; "
            "make one with: openssl rand -hex 32"
        )
    digests = tuple(hashlib.sha256(key).digest() for key in keys)
    return ApiKeys(digests), _warnings(path, mode)


def _warnings(path: Path, mode: int) -> list[str]:
    if sys.platform != "win32" and mode & 0o077:
        return [f"other users can read or write {path} (mode {mode:03o}); run: chmod 600 {path}"]
    return []


def _is_key(key: bytes) -> bool:
    return len(key) >= SHORTEST_KEY and all(0x21 <= byte <= 0x7E for byte in key)


def _key_in(headers: list[tuple[bytes, bytes]]) -> bytes:
    for name, value in headers:
        if name == b"authorization" and value[: len(_BEARER)].lower() == _BEARER:
            return value[len(_BEARER) :].strip()
        if name == b"x-api-key":
            return value.strip()
    return b""
