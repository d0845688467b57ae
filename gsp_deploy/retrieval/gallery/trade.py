"""Choose how a faiss index searches: the fastest setting that reaches a recall."""

from __future__ import annotations

from typing import Any

from gsp_deploy.base.choices import GalleryKind
from gsp_deploy.retrieval.gallery.kinds import apply_setting, settings_of
from gsp_deploy.retrieval.gallery.recall import Truth, measured_recall
from gsp_deploy.retrieval.recall import RANK
from gsp_deploy.retrieval.trade import Setting, Trade, Trial, fastest, milliseconds


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

    def attempt(setting: Setting) -> Trial:
        apply_setting(index, setting)
        recall = measured_recall(index, truth).at_10.value
        taken = milliseconds(lambda query: index.search(query, RANK), truth.queries)
        return Trial(setting, recall, taken)

    trade = fastest(settings_of(kind, index), attempt, wanted, kind)
    apply_setting(index, trade.chosen.setting)
    return trade
