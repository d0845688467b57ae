"""Figures: a column has equal decimals, and figures differ from words."""

from __future__ import annotations

import pytest

from gsp_deploy.report.figures import aligned, is_figure


def test_columns_have_one_number_of_decimals() -> None:
    assert aligned([0.391, 12.0, None, 1234.5]) == ["0.391", "12.000", "–", "1,234.500"]
    assert aligned([12.34, 100.0]) == ["12.3", "100.0"]
    assert aligned([1234.5, 20000.0]) == ["1,234", "20,000"]
    assert aligned([]) == []


@pytest.mark.parametrize(
    "cell",
    ["–", "inf", "1,234", "-0.08", "3.1e-12", "25.0%", "0 of 240", "1.200 to 1.300", "≤ 1e-05"],
)
def test_figures_are_recognised(cell: str) -> None:
    assert is_figure(cell)


@pytest.mark.parametrize(
    "cell",
    ["", "pass", "00d3a3a45943", "32 images of test", "3 rounds", "2 cores", "float32 1 × 3 × 4"],
)
def test_words_are_not_figures(cell: str) -> None:
    assert not is_figure(cell)
