"""Counts have the right plural, and a gain is not written as a negative drop."""

from __future__ import annotations

import pytest

from gsp_deploy.base.words import counted, drop_in_words


@pytest.mark.parametrize(
    ("count", "words"), [(0, "0 steps"), (1, "1 step"), (2, "2 steps"), (1200, "1,200 steps")]
)
def test_one_of_a_thing_is_singular(count: int, words: str) -> None:
    assert counted(count, "step") == words


def test_a_plural_of_its_own() -> None:
    assert counted(1, "query", "queries") == "1 query"
    assert counted(3, "query", "queries") == "3 queries"


@pytest.mark.parametrize(
    ("points", "words"),
    [(0.306, "a drop of 0.31"), (-0.06, "no drop (+0.06)"), (-0.0, "no drop (+0.00)")],
)
def test_a_gain_is_no_negative_drop(points: float, words: str) -> None:
    assert drop_in_words(points) == words
