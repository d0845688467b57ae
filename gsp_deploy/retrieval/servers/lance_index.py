"""Train the IVF_PQ index of a LanceDB table, measure its recall, and choose its search.

The recall is that of a branch of the table: it lacks some images, its index is trained without
them, and they are the queries. Then the table's own index is trained, on all images, in the same
way. Readers see the old index until the new one is there, and a killed run leaves a branch that
the next one deletes.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from lancedb.index import IvfPq

from gsp_deploy.base.schema import from_fields
from gsp_deploy.errors import UsageError
from gsp_deploy.retrieval.recall import RANK, Recall, held_out, recall_of
from gsp_deploy.retrieval.servers.lance_table import DISTANCE, KEY, QUERY, VECTOR, key_in
from gsp_deploy.retrieval.servers.store import Trained
from gsp_deploy.retrieval.trade import REFINEMENTS, Setting, Trade, Trial, fastest, milliseconds

METHOD = (
    "The queries were held out on a branch of the table: its index was trained without them and "
    "searched with them; then the table's index was trained on all images. A neighbour counts if "
    "exact search by the same cosine also returns it or a tie. Intervals are Wilson's, at 95 %, "
    "over the queries."
)
KIND = "ivf-pq"
FEWEST = 1024  # images; Lance learns the 256 values of a code from them
# A search looks into 20 cells, and compares the best 8 times the wanted number again.
DEFAULT: Setting = {"nprobes": 20, "refine_factor": 8}
_RECORD = "gsp_deploy_index"
_BRANCH = "gsp-deploy-trial"
# Numbers of a code: Lance is fast with 8. Its k-means, like faiss's, takes few rounds and samples.
_PQ_ENTRIES, _ROUNDS, _SAMPLES = 8, 10, 64


@dataclass(frozen=True)
class _Record:
    """What the table records about its index."""

    setting: Setting
    recall: Recall


def setting_of(table: Any) -> Setting:
    """Return how the table is to be searched."""
    record = _record(table)
    return DEFAULT if record is None else record.setting


def images_trained(table: Any) -> int | None:
    """Return the number of images that the index was trained on; None without an index."""
    record = _record(table)
    return None if record is None else record.recall.images + record.recall.queries


def train(table: Any, wanted: float | None = None) -> Trained:
    """Train the table's index, and record its recall and how to search it.

    Args:
        table: LanceDB's table.
        wanted: the recall@10 that the search should reach, in (0, 1]; None takes the default
            search, or the one that was chosen before.

    Raises:
        UsageError: the table has too few images.
        GateError: no setting reaches the recall; the table's index stays as it is.
    """
    count = table.count_rows()
    if count < FEWEST:
        raise UsageError(
            f"an {KIND} index of LanceDB needs at least {FEWEST:,} images, got {count:,}; take "
            "--kind flat, which is fast for so few"
        )
    setting = setting_of(table)
    with _branch(table) as trial:
        trained = _tried(trial, setting, wanted)
    if trained.trade is not None:
        setting = trained.trade.chosen.setting
    _build(table)
    record = {_RECORD: json.dumps(asdict(_Record(setting, trained.recall)))}
    table.update_field_metadata({"path": VECTOR, "metadata": record})
    return trained


def searched(table: Any, vectors: np.ndarray, k: int, setting: Setting, column: str) -> Any:
    """Return the columns `column`, distance and query of a search with unit vectors `(n, D)`."""
    asked = table.search(vectors, vector_column_name=VECTOR).distance_type("cosine")
    asked = asked.nprobes(setting["nprobes"]).refine_factor(setting["refine_factor"])
    return asked.limit(k).select([column, DISTANCE]).to_arrow()


def _tried(trial: Any, setting: Setting, wanted: float | None) -> Trained:
    """Hold queries out of a branch, train it, choose a setting, and measure it."""
    _, rows = held_out(trial.count_rows())
    taken = trial.take_offsets(rows.tolist()).select([KEY, VECTOR]).to_arrow()
    queries = _vectors(taken[VECTOR].combine_chunks())
    trial.delete(key_in(taken[KEY].to_pylist()))
    best = _exact(trial, queries)
    _build(trial)
    trade: Trade | None = None
    half = 0
    if wanted is not None:
        half = len(queries) // 2
        first, truth = queries[:half], best[:half]

        def attempt(setting: Setting) -> Trial:
            recall = _recall(trial, first, truth, setting).at_10.value
            taken = milliseconds(lambda q: searched(trial, q, RANK, setting, KEY), first)
            return Trial(setting, recall, taken)

        trade = fastest(_settings(trial), attempt, wanted, KIND)
        setting = trade.chosen.setting
    return Trained(_recall(trial, queries[half:], best[half:], setting), trade)


def _recall(table: Any, queries: np.ndarray, best: np.ndarray, setting: Setting) -> Recall:
    hits = searched(table, queries, RANK, setting, KEY)
    cosines = np.full(best.shape, -math.inf)
    places = np.zeros(len(queries), int)
    for query, distance in zip(hits[QUERY].to_pylist(), hits[DISTANCE].to_pylist(), strict=True):
        cosines[query, places[query]] = 1 - distance
        places[query] += 1
    return replace(recall_of(cosines, best, table.count_rows()), method=METHOD)


def _exact(table: Any, queries: np.ndarray) -> np.ndarray:
    """Return the best cosines of unit vectors `(Q, D)` with all rows, `(Q, 10)`, best first."""
    best = np.full((len(queries), RANK), -math.inf, np.float32)
    for batch in table.search().select([VECTOR]).to_batches():
        all_of = np.concatenate([best, queries @ _vectors(batch[VECTOR]).T], axis=1)
        best = -np.partition(-all_of, RANK - 1, axis=1)[:, :RANK]
    return -np.sort(-best, axis=1)


def _vectors(column: Any) -> np.ndarray:
    return np.asarray(column.flatten()).reshape(len(column), -1)


def _build(table: Any) -> None:
    dim = table.schema.field(VECTOR).type.list_size
    codes = next(n for n in range(max(1, dim // _PQ_ENTRIES), 0, -1) if dim % n == 0)
    table.create_index(
        VECTOR,
        config=IvfPq(
            distance_type="cosine",
            num_partitions=_cells(table.count_rows()),
            num_sub_vectors=codes,
            max_iterations=_ROUNDS,
            sample_rate=_SAMPLES,
        ),
    )


def _cells(count: int) -> int:
    return min(round(math.sqrt(count)), count // _SAMPLES)


def _settings(table: Any) -> list[list[Setting]]:
    cells = _cells(table.count_rows())
    probes = sorted({*(1 << bit for bit in range(cells.bit_length())), cells})
    return [[{"nprobes": n, "refine_factor": f} for n in probes] for f in REFINEMENTS]


def _record(table: Any) -> _Record | None:
    text = (table.schema.field(VECTOR).metadata or {}).get(_RECORD.encode())
    with suppress(ValueError, TypeError, KeyError, RecursionError):
        return None if text is None else from_fields(_Record, json.loads(text))
    return None


@contextmanager
def _branch(table: Any) -> Iterator[Any]:
    if _BRANCH in table.branches.list():
        table.branches.delete(_BRANCH)
    trial = table.branches.create(_BRANCH)
    try:
        yield trial
    finally:
        table.branches.delete(_BRANCH)
