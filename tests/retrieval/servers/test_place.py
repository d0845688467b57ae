"""Places of collections: what is read, what is refused, and that no password is shown."""

from __future__ import annotations

import pytest

from gsp_deploy.errors import UsageError, VectorServerError
from gsp_deploy.retrieval.servers import Place, place_in


@pytest.mark.parametrize(
    ("server", "text", "uri"),
    [
        ("qdrant", "https://host:6333/photos", "https://host:6333"),
        ("qdrant", ":memory:/photos", ":memory:"),
        ("qdrant", "a folder/in/photos", "a folder/in"),
        ("milvus", "a/file.db/photos", "a/file.db"),
        ("lance", "a folder/in/photos", "a folder/in"),
        ("lance", "s3://bucket/photos", "s3://bucket"),
        ("lance", "db://cloud/photos", None),
        ("pgvector", "postgresql:///shop/photos", "postgresql:///shop"),
        ("pgvector", "postgresql://h/shop/photos?host=/run", "postgresql://h/shop?host=/run"),
        ("pgvector", "postgresql://h/photos", None),
        ("pgvector", "a/photos", None),
        ("qdrant", "http://localhost:6333", None),
        ("qdrant", "http://localhost", None),
        ("qdrant", "http://[/photos", None),
        ("qdrant", "ftp://host/photos", None),
        ("qdrant", "photos", None),
        ("qdrant", "", None),
        ("qdrant", "http://host/a b", None),
        ("qdrant", "http://host/photos/", None),
    ],
)
def test_a_place_is_read_or_refused(server: str, text: str, uri: str | None) -> None:
    if uri is None:
        with pytest.raises(VectorServerError, match=f"expected a place of {server}"):
            Place.parse(server, text)
        return
    place = Place.parse(server, text)
    assert (place.uri, place.collection) == (uri, "photos")
    assert place_in(f"{server}:{text}") == place


@pytest.mark.parametrize(
    ("settings", "shown"),
    [("", ""), ("?password=secret", ""), ("?a=1&sslpassword=secret&b=2", "?a=1&b=2")],
)
def test_passwords_are_not_shown(settings: str, shown: str) -> None:
    place = Place.parse("pgvector", f"postgresql://me:secret@h/shop/photos{settings}")
    assert str(place) == f"pgvector:postgresql://me@h/shop/photos{shown}"
    with pytest.raises(VectorServerError) as caught:
        Place.parse("pgvector", f"postgresql://me:secret@h/shop/c.d{settings}")
    assert "secret" not in str(caught.value)


def test_only_a_server_starts_a_place() -> None:
    assert place_in("gallery") is None
    assert place_in("other:gallery/photos") is None
    with pytest.raises(UsageError, match="expected a server of qdrant, milvus, pgvector, lance"):
        Place.parse("other", "http://host/photos")
