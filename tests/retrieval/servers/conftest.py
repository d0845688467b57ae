"""A model's identity, and embeddings of it."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from postgres_server import NotHereError, running_postgres

from gsp_deploy import PreprocessingSpec
from gsp_deploy.retrieval.identity import ModelIdentity
from gsp_deploy.retrieval.servers import Place

DIM, COUNT = 8, 30


@pytest.fixture
def identity() -> ModelIdentity:
    spec = PreprocessingSpec(32, 32)
    return ModelIdentity("m.onnx", "a" * 64, "c" * 64, "fp32", DIM, {"pooling": "gap"}, spec)


@pytest.fixture
def ids() -> list[str]:
    """Names, one of them with a byte that is not UTF-8, and one as long as a file system takes."""
    return ["café/\udcff.png", "d/" * 2000 + "a.png", *(f"{n}.png" for n in range(COUNT - 2))]


@pytest.fixture
def vectors() -> np.ndarray:
    drawn = np.random.default_rng(0).standard_normal((COUNT, DIM)).astype(np.float32)
    return 3 * drawn


@pytest.fixture(scope="session")
def database() -> Iterator[str]:
    """The URI of a database of a PostgreSQL server that runs for these tests."""
    try:
        with running_postgres() as uri:
            yield uri
    except NotHereError as error:
        pytest.skip(str(error))


@pytest.fixture
def table(database: str) -> Iterator[Place]:
    """A table that is not there before the test, and not after it."""
    import psycopg

    yield Place("pgvector", database, "photos")
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute("DROP TABLE IF EXISTS photos")
