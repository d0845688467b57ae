"""Choose how an index searches: the fastest setting that reaches a recall."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from gsp_deploy.base.choices import GalleryKind
from gsp_deploy.errors import GateError
from gsp_deploy.retrieval.gallery.kinds import Setting, apply_setting, settings_of
from gsp_deploy.retrieval.gallery.recall import RANK, Truth, measured_recall

_TIMED_QUERIES = 50


@dataclass(frozen=True)
class Trial:
    """A setting, and what it reached on the queries that choose.

    Attributes:
        setting: faiss's parameters.
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


def choose_setting(kind: GalleryKind, index: Any, truth: Truth, wanted: float) -> Trade:
    """Try settings, and leave the index with the fastest that reaches the wanted recall@10.

    Args:
        kind: the index's kind.
        index: the index of the truth's vectors.
        truth: queries that the index does not contain. Measure the recall that you report on
            others, because a choice flatters the queries that it was made on.
        wanted: the recall@10, in (0, 1].

    Raises:
        GateError: no setting reaches it.
    """
    trials = list(_trials(settings_of(kind, index), index, truth, wanted))
    good = [trial for trial in trials if trial.recall >= wanted]
    if not good:
        best = max(trials, key=lambda trial: trial.recall)
        raise GateError(
            f"no setting of this {kind} index reaches a recall@{RANK} of {wanted:g}; the best is "
            f"{best.recall:.4f} with {best.words}; want less, or take --kind flat"
        )
    chosen = min(good, key=lambda trial: (trial.milliseconds, -trial.recall))
    apply_setting(index, chosen.setting)
    return Trade(wanted, chosen, _front(trials))


def _trials(
    rows: Sequence[Sequence[Setting]], index: Any, truth: Truth, wanted: float
) -> Iterator[Trial]:
    """Yield each row's trials up to the first that reaches the recall; the others are slower."""
    for row in rows:
        for setting in row:
            trial = _trial(index, setting, truth)
            yield trial
            if trial.recall >= wanted:
                break


def _trial(index: Any, setting: Setting, truth: Truth) -> Trial:
    apply_setting(index, setting)
    recall = measured_recall(index, truth).at_10.value
    times = []
    for query in truth.queries[:_TIMED_QUERIES]:
        start = time.perf_counter()
        index.search(query[None], RANK)
        times.append(time.perf_counter() - start)
    return Trial(setting, recall, 1e3 * float(np.median(times)))


def _front(trials: Sequence[Trial]) -> tuple[Trial, ...]:
    """Return the trials in order of time, without those that find no more than a faster one."""
    front: list[Trial] = []
    for trial in sorted(trials, key=lambda trial: (trial.milliseconds, -trial.recall)):
        if not front or trial.recall > front[-1].recall:
            front.append(trial)
    return tuple(front)
