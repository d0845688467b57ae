"""How the report writes figures and outcomes, and how it tells figures from words."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

DASH = "–"
PASS, FAIL = "pass", "FAIL"
_MOST_DECIMALS = 4
_NUMBER = r"[+-]?[\d,.]+(e[+-]\d+)?"
_FIGURE = re.compile(rf"([≤≥] )?({_NUMBER}|inf)%?( (of|to) {_NUMBER})?|{DASH}")


def aligned(values: Sequence[float | None], digits: int = 3) -> list[str]:
    """Write a column of figures with as many decimals as the smallest needs for its digits.

    None, which is a figure that is not there, becomes a dash.
    """
    smallest = min((abs(value) for value in values if value), default=1.0)
    decimals = min(max(0, digits - 1 - math.floor(math.log10(smallest))), _MOST_DECIMALS)
    return [DASH if value is None else f"{value:,.{decimals}f}" for value in values]


def scientific(value: float | None) -> str:
    """Write an error with two digits; a dash where there is none."""
    return DASH if value is None else f"{value:.1e}"


def points(share: float | None) -> str:
    """Write a change of a share in points of 100, with its sign."""
    return DASH if share is None else f"{100 * share:+.2f}"


def per_cent(share: float | None) -> str:
    """Write a share in per cent."""
    return DASH if share is None else f"{100 * share:.2f}"


def is_figure(cell: str) -> bool:
    """Whether a cell of a table holds a figure, or the dash in its place."""
    return _FIGURE.fullmatch(cell) is not None
