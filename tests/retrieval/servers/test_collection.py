"""Every server that runs here: filled, filled again, searched, and refused to another model."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from gsp_deploy.errors import (
    DataError,
    MissingCapabilityError,
    ModelFileError,
    UsageError,
    VectorServerError,
)
from gsp_deploy.metrics import unit_rows
from gsp_deploy.retrieval.identity import ModelIdentity
from gsp_deploy.retrieval.servers import Place, Stamp, fill_collection, open_collection
from gsp_deploy.retrieval.servers.store import Request, store_of

PACKAGES = {
    "qdrant": ("qdrant_client",),
    "milvus": ("pymilvus", "milvus_lite"),
    "pgvector": ("psycopg", "pgvector"),
    "lance": ("lancedb",),
}


@pytest.fixture(params=PACKAGES)
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    for package in PACKAGES[request.param]:
        pytest.importorskip(package)
    if request.param == "pgvector":
        yield request.getfixturevalue("table")
    else:
        yield Place(request.param, str(tmp_path / "stored.db"), "photos")


def test_what_is_sent_is_found_after_opening_again(
    place: Place, identity: ModelIdentity, ids, vectors, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_of(place), "request", Request(7, 1 << 18))
    collection, warning = fill_collection(place, identity, "onnxruntime 1.0")
    with collection:
        collection.add(ids[:20], vectors[:20])
        collection.add(ids[10:], vectors[10:])  # ten of them again
        assert (len(collection), warning) == (len(ids), None)
    with open_collection(place) as opened:
        stamp = opened.stamp
        assert (stamp.identity, stamp.runtime, stamp.metric) == (
            identity,
            "onnxruntime 1.0",
            "cosine",
        )
        hits, warning = opened.search(identity, vectors, 5)
        everything, _ = opened.search(identity, vectors[:1], 100)
    assert warning is None
    assert len(everything[0]) == len(ids)
    cosines = unit_rows(vectors.astype(np.float64)) @ unit_rows(vectors.astype(np.float64)).T
    for row, wanted in zip(hits, cosines, strict=True):
        nearest = np.argsort(-wanted)[:5]
        assert [hit.file for hit in row] == [ids[place] for place in nearest]
        assert [hit.rank for hit in row] == [1, 2, 3, 4, 5]
        np.testing.assert_allclose([hit.cosine for hit in row], wanted[nearest], atol=1e-5)


def test_files_of_a_client_are_found_by_another_process(
    place: Place, identity, ids, vectors, tmp_path: Path
) -> None:
    """A copy at another path is new to a client that keeps open files in this process."""
    if place.path is None:
        pytest.skip("a server has no files")
    with fill_collection(place, identity)[0] as collection:
        collection.add(ids, vectors)
    copy = shutil.copytree(place.path, tmp_path / "copy.db")
    with open_collection(replace(place, uri=str(copy))) as opened:
        hits, _ = opened.search(identity, vectors[3:5], 1)
        assert [row[0].file for row in hits] == ids[3:5]
        assert len(opened) == len(ids)


def test_an_id_that_is_sent_again_is_replaced(place: Place, identity, vectors) -> None:
    collection, _ = fill_collection(place, identity)
    with collection:
        collection.add(["a.png", "b.png", "b.png"], vectors[[0, 4, 1]])
        collection.add(["a.png"], vectors[2:3])
        (row,), _ = collection.search(identity, vectors[2:3], 1)
        assert (len(collection), row[0].file) == (2, "a.png")
        assert row[0].cosine == pytest.approx(1, abs=1e-5)


def test_another_model_is_refused(place: Place, identity: ModelIdentity, vectors) -> None:
    fill_collection(place, identity)[0].__exit__()
    other = replace(identity, sha256="b" * 64, checkpoint_sha256="d" * 64)
    with pytest.raises(UsageError, match=r"the new embeddings are from .* different checkpoints"):
        fill_collection(place, other)
    half = replace(identity, sha256="b" * 64, precision="fp16")
    collection, warning = fill_collection(place, half)
    with collection:
        assert warning == (
            "the index is in fp32 and the new embeddings are in fp16, from the same checkpoint: "
            "near neighbours may change places"
        )
        with pytest.raises(UsageError, match="the queries are from"):
            collection.search(other, vectors, 1)


def test_a_collection_that_is_not_there_or_not_stamped(place: Place, identity) -> None:
    with pytest.raises(ModelFileError, match="no such collection"):
        open_collection(place)
    assert not Path(place.uri).exists()
    store = store_of(place)(place)
    store.create(identity.embedding_dim, "")
    store.close()
    for use in (open_collection, lambda place: fill_collection(place, identity)):
        with pytest.raises(ModelFileError, match="no stamp of gsp-deploy"):
            use(place)
    with pytest.raises(ModelFileError, match="no such collection"):
        open_collection(replace(place, collection="others"))


def test_a_wrong_dimension_is_one_line(place: Place, identity, vectors) -> None:
    collection, _ = fill_collection(place, identity)
    with collection:
        with pytest.raises(DataError, match=r"expected embeddings \(n, 8\).*, got \(1, 3\)"):
            collection.add(["a.png"], vectors[:1, :3])
        with pytest.raises(DataError, match="got"):
            collection.search(identity, vectors[:1, :3], 1)


def test_what_the_server_refuses_is_one_line(place: Place, identity, vectors) -> None:
    longer = replace(identity, embedding_dim=2 * identity.embedding_dim)
    store = store_of(place)(place)
    store.create(identity.embedding_dim, Stamp(longer, None).to_text())
    store.close()
    with open_collection(place) as collection:
        with pytest.raises(VectorServerError, match=f"^{re.escape(str(place))}: .*") as caught:
            collection.add(["a.png"], np.tile(vectors[:1], 2))
        assert "\n" not in str(caught.value)


def test_two_runs_may_make_a_collection_at_once(
    place: Place, identity, monkeypatch: pytest.MonkeyPatch
) -> None:
    kind = store_of(place)
    create: Callable[..., None] = kind.create

    def create_late(self, dim: int, stamp: str) -> None:
        create(self, dim, stamp)
        create(self, dim, stamp)

    monkeypatch.setattr(kind, "create", create_late)
    fill_collection(place, identity)[0].__exit__()


def test_a_server_that_keeps_no_stamp_is_refused(
    place: Place, identity, monkeypatch: pytest.MonkeyPatch
) -> None:
    kind = store_of(place)
    create: Callable[..., None] = kind.create
    monkeypatch.setattr(kind, "create", lambda self, dim, _: create(self, dim, ""))
    with pytest.raises(MissingCapabilityError, match="keeps no stamp on a collection; update"):
        fill_collection(place, identity)


def test_removed_images_are_gone(place: Place, identity, ids, vectors) -> None:
    with fill_collection(place, identity)[0] as collection:
        collection.add(ids, vectors)
        assert collection.remove(["1?.png", ids[0], ids[1], "2.png"]) == 13
        left = [name for name in ids[2:] if not name.startswith("1") or name == "1.png"]
        left.remove("2.png")
        assert len(collection) == len(left)
        hits, _ = collection.search(identity, vectors[:1], 100)
        assert {hit.file for hit in hits[0]} == set(left)
        with pytest.raises(UsageError, match=r"no image '2\.png'"):
            collection.remove(["2.png"])
        with pytest.raises(UsageError, match="remove every image; delete the collection"):
            collection.remove(["*"])


@pytest.mark.parametrize("server", [server for server in PACKAGES if server != "lance"])
def test_a_refused_connection_is_one_line(server: str, identity) -> None:
    pytest.importorskip(PACKAGES[server][0])
    uri = "postgresql://me@127.0.0.1:1/shop" if server == "pgvector" else "http://127.0.0.1:1"
    with pytest.raises(VectorServerError, match="check the URI, your access") as caught:
        open_collection(Place(server, uri, "photos"))
    assert "\n" not in str(caught.value)
