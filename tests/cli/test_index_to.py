"""index --to and search --index on vector servers, as commands."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

PLACES = {
    "qdrant": ("qdrant_client", "stored/photos"),
    "milvus": ("milvus_lite", "stored.db/photos"),
    "lance": ("lancedb", "stored/photos"),
}


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pictures")
    for k in range(4):
        noise = np.random.default_rng(k).integers(0, 256, (3, 3, 3), dtype=np.uint8)
        Image.fromarray(noise).resize((40, 40)).save(folder / f"{k}.png")
    (folder / "broken.jpg").write_bytes(b"no image")
    return folder


@pytest.mark.parametrize("server", PLACES)
def test_images_are_sent_and_found(
    server: str, tiny_export, pictures, tmp_path: Path, run_here, monkeypatch
) -> None:
    package, text = PLACES[server]
    pytest.importorskip(package)
    monkeypatch.setitem(sys.modules, "faiss", None)  # a vector server needs no faiss
    monkeypatch.chdir(tmp_path)
    for _ in range(2):
        to = ("--to", server, text, "--json")
        code, out, err = run_here("index", tiny_export, pictures, *to)
        assert code == 0, err
        document = json.loads(out)
        assert (document["images"], document["sent"], document["kind"]) == (4, 4, server)
        assert [Path(f["file"]).name for f in document["skipped"]] == ["broken.jpg"]
    query = pictures / "3.png"
    index = ("--index", document["index"], "--model", tiny_export)
    code, out, err = run_here("search", query, *index, "-k", 2, "--json")
    assert code == 0, err
    (result,) = json.loads(out)["results"]
    assert [hit["rank"] for hit in result["hits"]] == [1, 2]
    assert result["hits"][0]["file"] == str(query)
    assert result["hits"][0]["cosine"] == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("name", ["set", "table.npy", "table.parquet"])
def test_what_embed_wrote_is_sent(
    name: str, tiny_export, pictures, tmp_path: Path, run_here
) -> None:
    pytest.importorskip("pyarrow")
    pytest.importorskip("qdrant_client")
    stored = tmp_path / name
    assert run_here("embed", tiny_export, pictures, "-o", stored)[0] == 0
    to = ("--to", "qdrant", tmp_path / "stored/photos")
    model = () if name == "set" else ("--model", tiny_export)
    if model:
        code, _, err = run_here("index", stored, *to)
        assert (code, "name that model with --model" in err) == (2, True)
        assert not (tmp_path / "stored").exists()
    code, out, err = run_here("index", stored, *model, *to)
    assert code == 0, err
    assert "4 images, 8-D" in out
    index = ("--index", f"qdrant:{tmp_path}/stored/photos", "--model", tiny_export)
    code, out, err = run_here("search", pictures / "2.png", *index, "--json")
    assert code == 0, err
    hits = json.loads(out)["results"][0]["hits"]
    assert (len(hits), hits[0]["file"]) == (4, str(pictures / "2.png"))


@pytest.mark.parametrize(
    ("ids", "vectors", "said"),
    [
        ("a\nb\n", np.ones((2, 7)), "got 7-D"),
        ("a\na\n", np.ones((2, 8)), "each id once, got 'a' again"),
        ("a\nb\n", np.full((2, 8), np.nan), "embedding 0 contains NaN"),
        ("", np.ones((0, 8)), "has no embeddings"),
    ],
)
def test_damaged_embeddings_make_no_collection(
    ids: str, vectors: np.ndarray, said: str, tiny_export, tmp_path: Path, run_here
) -> None:
    pytest.importorskip("qdrant_client")
    np.save(tmp_path / "t.npy", vectors.astype(np.float32))
    (tmp_path / "t.ids.txt").write_text(ids)
    to = ("--model", tiny_export, "--to", "qdrant", tmp_path / "stored/photos")
    code, _, err = run_here("index", tmp_path / "t.npy", *to)
    assert (code, said in " ".join(err.split())) == (1, True), err
    assert not (tmp_path / "stored").exists()


@pytest.mark.parametrize(
    ("options", "code", "said"),
    [
        ((), 2, "name a folder with --output, or a vector server with --to"),
        (("--to", "qdrant", "a/b", "-o", "c"), 2, "leave --output and --force out"),
        (("--to", "qdrant", "a/b", "--kind", "ivf"), 2, "which has an index of its own"),
        (
            ("--to", "lance", "a/b", "--kind", "hnsw"),
            2,
            "(--kind flat) or by --kind ivf-pq",
        ),
        (("--to", "lance", "a/b", "--recall", "0.9"), 2, "a flat index is exact"),
        (("--to", "other", "a/b"), 2, "expected a server of qdrant, milvus, pgvector, lance, got"),
        (("--to", "qdrant", "http://localhost:6333"), 1, "expected a place of qdrant such as"),
        (("--to", "qdrant", "http://127.0.0.1:1/b"), 1, "check the URI, your access, and that"),
    ],
)
def test_bad_places_are_one_line(
    options: tuple[str, ...], code: int, said: str, tiny_export, pictures, run_here
) -> None:
    pytest.importorskip("qdrant_client")
    found, _, err = run_here("index", tiny_export, pictures / "0.png", *options)
    assert (found, said in " ".join(err.split())) == (code, True), err


def test_a_search_of_a_collection_that_is_not_there(tiny_export, pictures, run_here) -> None:
    pytest.importorskip("qdrant_client")
    options = ("--index", "qdrant:none/photos", "--model", tiny_export)
    code, _, err = run_here("search", pictures / "0.png", *options)
    assert (code, "qdrant:none/photos: no such collection" in err) == (1, True), err


@pytest.mark.parametrize(
    ("server", "package", "uri"),
    [
        ("qdrant", "qdrant_client", "http://h/photos"),
        ("milvus", "pymilvus", "http://h/photos"),
        ("milvus", "milvus_lite", "stored.db/photos"),
        ("pgvector", "psycopg", "postgresql://h/shop/photos"),
        ("lance", "lancedb", "stored/photos"),
    ],
)
def test_a_missing_client_is_one_line(
    server: str, package: str, uri: str, tiny_export, pictures, run_here, monkeypatch
) -> None:
    for loaded in [name for name in sys.modules if name.partition(".")[0] == package]:
        monkeypatch.delitem(sys.modules, loaded)
    monkeypatch.delitem(sys.modules, f"gsp_deploy.retrieval.servers.{server}", raising=False)
    monkeypatch.setitem(sys.modules, package, None)
    code, _, err = run_here("index", tiny_export, pictures / "0.png", "--to", server, uri)
    line = "pip install milvus-lite" if package == "milvus_lite" else f"gsp-deploy[{server}]'"
    assert (code, line in " ".join(err.split())) == (4, True), err


@pytest.mark.parametrize("server", PLACES)
def test_a_collection_is_added_to_and_removed_from(
    server: str, tiny_export, pictures, tmp_path: Path, run_here
) -> None:
    package, text = PLACES[server]
    pytest.importorskip(package)
    to, index = ("--to", server, tmp_path / text), f"{server}:{tmp_path / text}"
    assert run_here("index", tiny_export, pictures / "0.png", *to)[0] == 0
    code, out, err = run_here("index-add", tiny_export, pictures, "--to", index, "--json")
    assert (code, json.loads(out)["images"]) == (0, 4), err
    code, out, err = run_here("index-remove", index, pictures / "3.png", f"{pictures}/[01].*")
    assert (code, "removed   3 images" in out, "contains  1 image" in out) == (0, True, True), err
    code, _, err = run_here("index-remove", index, "none.png")
    assert (code, "the gallery has no image 'none.png'" in err) == (2, True), err
    code, out, err = run_here("index-compact", index, "--json")
    if server != "lance":
        assert (code, f"{server} builds and compacts an index of its own" in err) == (2, True), err
        return
    assert code == 0, err
    assert json.loads(out)["files"][1] == 1


def test_a_table_of_lance_is_trained_and_searched(
    tiny_export, tmp_path: Path, run_here, pictures, monkeypatch
) -> None:
    pytest.importorskip("lancedb")
    monkeypatch.setattr("gsp_deploy.retrieval.trade._TIMED_QUERIES", 2)
    monkeypatch.setattr("gsp_deploy.retrieval.servers.lance_index.REFINEMENTS", (4,))
    vectors = np.random.default_rng(0).standard_normal((1200, 8)).astype(np.float32)
    np.save(tmp_path / "t.npy", vectors)
    (tmp_path / "t.ids.txt").write_text("".join(f"{n}.png\n" for n in range(1200)))
    to = ("--model", tiny_export, "--to", "lance", tmp_path / "stored/photos")
    training = ("--kind", "ivf-pq", "--recall", "0.5")
    code, out, err = run_here("index", tmp_path / "t.npy", *to, *training)
    assert code == 0, err
    assert "ivf-pq, approximate" in out
    assert "60 queries held out of 1,080" in out
    assert "recall against time, to reach 50 %" in out
    index = f"lance:{tmp_path}/stored/photos"
    code, out, err = run_here("index-compact", index, "--recall", "0.4")
    assert (code, "images outside the index  0 -> 0" in out) == (0, True), err
    options = ("--index", index, "--model", tiny_export, "--json", "-k", 3)
    code, out, err = run_here("search", pictures / "0.png", *options)
    assert (code, len(json.loads(out)["results"][0]["hits"])) == (0, 3), err
