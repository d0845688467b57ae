"""LanceDB: several runs at once, a trained index and its recall, compaction, an object store."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("lancedb")

from gsp_deploy.errors import GateError, UsageError, VectorServerError
from gsp_deploy.metrics import unit_rows
from gsp_deploy.retrieval import trade
from gsp_deploy.retrieval.identity import ModelIdentity
from gsp_deploy.retrieval.servers import (
    Place,
    fill_collection,
    lance_index,
    open_collection,
)
from gsp_deploy.retrieval.servers.lance import LanceStore

COUNT, DIM = 2000, 16
IDS = [f"{number}.png" for number in range(COUNT)]


@pytest.fixture(autouse=True)
def _few_timings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trade, "_TIMED_QUERIES", 2)
    monkeypatch.setattr(lance_index, "REFINEMENTS", (4,))
    monkeypatch.setattr(lance_index, "_cells", lambda _: 8)


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place("lance", str(tmp_path / "stored"), "photos")


@pytest.fixture
def model(identity: ModelIdentity) -> ModelIdentity:
    return replace(identity, embedding_dim=DIM)


@pytest.fixture(scope="module")
def spread() -> np.ndarray:
    """Unit vectors in clumps, as images of the same things are."""
    random = np.random.default_rng(0)
    centres = random.standard_normal((40, DIM))
    drawn = centres[random.integers(0, 40, COUNT)] + 0.5 * random.standard_normal((COUNT, DIM))
    return unit_rows(drawn.astype(np.float32))


def overlap(collection, model, vectors: np.ndarray, queries: np.ndarray) -> float:
    """Mean share of the 10 exact neighbours that a search finds, by numpy."""
    hits, _ = collection.search(model, queries, 10)
    wanted = np.argsort(-queries @ vectors.T, axis=1)[:, :10]
    pairs = zip(hits, wanted, strict=True)
    return float(np.mean([len({h.file for h in row} & {IDS[w] for w in ten}) for row, ten in pairs])
                 / 10)  # fmt: skip


def test_runs_at_the_same_time_count_each_image_once(place, model, spread) -> None:
    def run(_: int) -> None:
        with fill_collection(place, model)[0] as collection:
            for start in range(0, 400, 100):
                rows = slice(start, start + 100)
                collection.add(IDS[rows], spread[rows])

    fill_collection(place, model)[0].__exit__()
    with ThreadPoolExecutor(3) as threads:
        list(threads.map(run, range(3)))
    with open_collection(place) as collection:
        assert len(collection) == 400


def test_an_index_is_trained_measured_and_compacted(
    place, model, spread, monkeypatch: pytest.MonkeyPatch
) -> None:
    with fill_collection(place, model)[0] as collection:
        for start in range(0, 1100, 220):
            rows = slice(start, min(start + 220, 1100))
            collection.add(IDS[rows], spread[rows])
        branches = LanceStore(place).table.branches
        branches.create("gsp-deploy-trial")  # as a killed run leaves it
        trained = collection.train(0.9)
        assert not branches.list()
        assert trained.trade is not None
        assert trained.trade.chosen.recall >= 0.9
        assert (trained.recall.queries, trained.recall.images) == (55, 990)
        assert 0.8 < trained.recall.at_10.value <= 1
        collection.remove(["1.png", "2.png"])
        with open_collection(place) as reader:
            collection.add(IDS[3:5], spread[3:5])
            before = overlap(reader, model, spread[:1100], spread[5:200:10])
            done = collection.compact()
            assert done.files[1] < done.files[0]
            assert (done.outside, done.trained) == ((2, 0), None)
            after = overlap(reader, model, spread[:1100], spread[5:200:10])
        assert min(before, after) > 0.8
        assert len(collection) == 1098
        collection.add(IDS[1:3], spread[1:3])
        again = collection.compact(0.99)
        assert again.trained is not None
        assert again.trained.recall.images == 990
        monkeypatch.setattr(lance_index, "images_trained", lambda _: 550)
        assert collection.compact().trained is not None
    with open_collection(place) as opened:
        assert overlap(opened, model, spread[:1100], spread[:1100:40]) > 0.95


def test_a_recall_that_cannot_be_reached_leaves_the_table(
    place, model, spread, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lance_index, "_settings", lambda _: [[{"nprobes": 1, "refine_factor": 1}]])
    with fill_collection(place, model)[0] as collection:
        collection.add(IDS[:1000], spread[:1000])
        with pytest.raises(UsageError, match=r"needs at least 1,024 images, got 1,000; take"):
            collection.train()
        collection.add(IDS[1000:], spread[1000:])
        with pytest.raises(GateError, match=r"no setting of this ivf-pq index reaches .* of 1;"):
            collection.train(1.0)
        assert len(collection) == COUNT
        assert overlap(collection, model, spread, spread[:20]) == 1  # exact, without an index


def test_a_bucket(model, spread, monkeypatch: pytest.MonkeyPatch) -> None:
    boto3 = pytest.importorskip("boto3")
    moto = pytest.importorskip("moto.server")
    server = moto.ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    try:
        uri = "http://{}:{}".format(*server.get_host_and_port())
        for name, value in {
            "AWS_ENDPOINT_URL": uri, "AWS_ALLOW_HTTP": "true", "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret",
        }.items():  # fmt: skip
            monkeypatch.setenv(name, value)
        boto3.client("s3").create_bucket(Bucket="photos")
        place = Place.parse("lance", "s3://photos/stored/all")
        with fill_collection(place, model)[0] as collection:
            for _ in range(2):
                collection.add(IDS[:20], spread[:20])
        with open_collection(place) as opened:
            assert (len(opened), opened.identity) == (20, model)
            assert overlap(opened, model, spread[:20], spread[:5]) == 1
        with pytest.raises(
            VectorServerError, match="all: The specified bucket does not exist; check"
        ):
            open_collection(Place.parse("lance", "s3://none/all"))
    finally:
        server.stop()
    with pytest.raises(VectorServerError, match="all: Connection refused; check the URI"):
        open_collection(place)
