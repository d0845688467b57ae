"""Choose how an index searches: the fastest setting that reaches a recall."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from gsp_deploy.errors import GateError, UsageError
from gsp_deploy.retrieval.recall import RANK

# A setting of a search: the names of its parameters, and their values.
Setting = dict[str, int]
# How many times the wanted number of results a search compares again, with less compressed vectors.
REFINEMENTS = (1, 4, 16, 64)
_TIMED_QUERIES = 50


@dataclass(frozen=True)
class Trial:
    """A setting, and what it reached on the queries that choose.

    Attributes:
        setting: the search's parameters.
        recall: recall@10.
        milliseconds: median time of a search with one query, on this machine.
    """

    setting: Setting
    recall: float
    milliseconds: float

    @property
    def words(self) -> str:
        """The setting as `nprobe 8, k_factor_rf 4`."""
        return ", ".join(f"{name} {value}" for name, value in self.setting.items())


@dataclass(frozen=True)
class Trade:
    """The recall that was wanted, the chosen setting, and those that no other one beats."""

    wanted: float
    chosen: Trial
    trials: tuple[Trial, ...]


def check_recall(kind: str, recall: float | None) -> None:
    """Check the recall that is wanted of a kind of index.

    Raises:
        UsageError: it is not in (0, 1], or an exact index is to reach it.
    """
    if recall is None:
        return
    if not 0 < recall <= 1:
        raise UsageError(f"expected a recall above 0 and at most 1, such as 0.99, got {recall:g}")
    if kind == "flat":
        raise UsageError("a flat index is exact, so no recall can be chosen; take another --kind")


def fastest(
    rows: Sequence[Sequence[Setting]], attempt: Callable[[Setting], Trial], wanted: float, kind: str
) -> Trade:
    """Try settings, and choose the fastest that reaches the wanted recall@10.

    Args:
        rows: in each row the recall and the time grow from one setting to the next.
        attempt: tries one setting.
        wanted: the recall@10, in (0, 1].
        kind: the index's kind, for the error.

    Raises:
        GateError: no setting reaches it.
    """
    trials = list(_trials(rows, attempt, wanted))
    good = [trial for trial in trials if trial.recall >= wanted]
    if not good:
        best = max(trials, key=lambda trial: trial.recall)
        raise GateError(
            f"no setting of this {kind} index reaches a recall@{RANK} of {wanted:g}; the best is "
            f"{best.recall:.4f} with {best.words}; want less, or take --kind flat"
        )
    chosen = min(good, key=lambda trial: (trial.milliseconds, -trial.recall))
    return Trade(wanted, chosen, _front(trials))


def milliseconds(search: Callable[[np.ndarray], object], queries: np.ndarray) -> float:
    """Return the median time of a search with one query `(1, D)`, over the first of `queries`."""
    times = []
    for query in queries[:_TIMED_QUERIES]:
        start = time.perf_counter()
        search(query[None])
        times.append(time.perf_counter() - start)
    return 1e3 * float(np.median(times))


def _trials(
    rows: Sequence[Sequence[Setting]], attempt: Callable[[Setting], Trial], wanted: float
) -> Iterator[Trial]:
    """Yield each row's trials up to the first that reaches the recall; the others are slower."""
    for row in rows:
        for setting in row:
            trial = attempt(setting)
            yield trial
            if trial.recall >= wanted:
                break


def _front(trials: Sequence[Trial]) -> tuple[Trial, ...]:
    """Return the trials in order of time, without those that find no more than a faster one."""
    front: list[Trial] = []
    for trial in sorted(trials, key=lambda trial: (trial.milliseconds, -trial.recall)):
        if not front or trial.recall > front[-1].recall:
            front.append(trial)
    return tuple(front)
