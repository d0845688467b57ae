"""Parse where a collection is: a vector server, its URI, and the collection's name."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, get_args
from urllib.parse import urlsplit

from gsp_deploy.base.choices import VectorServer
from gsp_deploy.errors import UsageError, VectorServerError, brief

SERVERS: tuple[VectorServer, ...] = get_args(VectorServer)
# Those whose index gsp-deploy trains; the others build one of their own.
TRAINED: tuple[VectorServer, ...] = ("lance",)
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_-]{0,62}")
# A password after its user, and a setting that may be a secret.
_PASSWORD = re.compile(r"(?<=//)([^/@:]*):[^/@]*@")
_SECRET = re.compile(r"[^&?]*(?:password|key|token)[^&]*&?", re.IGNORECASE)


class _Form(NamedTuple):
    """The schemes of a server's URIs, and how a place is written."""

    schemes: tuple[str, ...]
    written: str


_FORMS: dict[VectorServer, _Form] = {
    "qdrant": _Form(("http", "https"), "http://HOST:6333/COLLECTION or FOLDER/COLLECTION"),
    "milvus": _Form(("http", "https"), "http://HOST:19530/COLLECTION or FILE.db/COLLECTION"),
    "lance": _Form(("s3", "gs", "az"), "FOLDER/TABLE or s3://BUCKET/FOLDER/TABLE"),
    "pgvector": _Form(("postgresql", "postgres"), "postgresql://HOST/DATABASE/TABLE"),
}


@dataclass(frozen=True)
class Place:
    """A collection on a vector server.

    Attributes:
        server: `qdrant`, `milvus`, `pgvector` or `lance`.
        uri: the server's URI without the collection, or a folder or file that the server's own
            client opens.
        collection: the collection; a table in PostgreSQL.
    """

    server: VectorServer
    uri: str
    collection: str

    @classmethod
    def parse(cls, server: str, text: str) -> Place:
        """Return the place that a text names.

        >>> Place.parse("qdrant", "http://localhost:6333/photos")
        Place(server='qdrant', uri='http://localhost:6333', collection='photos')
        >>> Place.parse("pgvector", "postgresql://me:secret@db/shop/photos?sslmode=require").uri
        'postgresql://me:secret@db/shop?sslmode=require'

        Raises:
            UsageError: the server is not one of `SERVERS`.
            VectorServerError: the text is no place of that server.
        """
        if server not in SERVERS:
            raise UsageError(f"expected a server of {', '.join(SERVERS)}, got {brief(server)}")
        address, mark, query = text.partition("?")
        uri, _, collection = address.rpartition("/")
        form = _FORMS[server]
        if not _NAME.fullmatch(collection) or not _is_address(uri, server):
            shown = brief(_without_password(address))
            raise VectorServerError(
                f"expected a place of {server} such as {form.written}, got {shown}"
            )
        return cls(server, f"{uri}{mark}{query}", collection)

    @property
    def path(self) -> Path | None:
        """The folder or file that the client opens on this machine; None for a server."""
        return None if "://" in self.uri or self.uri == ":memory:" else Path(self.uri)

    def __str__(self) -> str:
        """Return the place as `search --index` takes it, without its secrets.

        >>> str(Place.parse("pgvector", "postgresql://me:secret@db/shop/photos?sslmode=require"))
        'pgvector:postgresql://me@db/shop/photos?sslmode=require'
        """
        address, _, query = self.uri.partition("?")
        settings = _SECRET.sub("", query).rstrip("&")
        shown = f"{self.server}:{_without_password(address)}/{self.collection}"
        return f"{shown}?{settings}" if settings else shown


def place_in(text: str) -> Place | None:
    """Return the place that a text such as `qdrant:http://localhost:6333/photos` names.

    Return None if the text does not start with a server, such as the name of a folder.

    Raises:
        VectorServerError: the text starts with a server, and the rest is no place of it.
    """
    server, mark, rest = text.partition(":")
    return Place.parse(server, rest) if mark and server in SERVERS else None


def _is_address(uri: str, server: VectorServer) -> bool:
    if "://" not in uri:
        return server != "pgvector" and uri != "" and not uri.endswith(":/")
    try:
        parts = urlsplit(uri)
    except ValueError:
        return False
    # PostgreSQL needs a database; without a host, it is on this machine.
    is_whole = len(parts.path) > 1 if server == "pgvector" else parts.netloc != ""
    return parts.scheme in _FORMS[server].schemes and is_whole


def _without_password(address: str) -> str:
    return _PASSWORD.sub(r"\1@", address)
