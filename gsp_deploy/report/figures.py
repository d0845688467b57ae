"""Format figures and outcomes for the report, and recognise cells that contain figures."""

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
    """Write a column of figures with equal decimals: enough to give the smallest `digits` digits.

    None, a missing figure, becomes a dash.

    >>> aligned([1.5, 12.25, None])
    ['1.50', '12.25', '–']
    """
    smallest = min((abs(value) for value in values if value), default=1.0)
    decimals = min(max(0, digits - 1 - math.floor(math.log10(smallest))), _MOST_DECIMALS)
    return [DASH if value is None else f"{value:,.{decimals}f}" for value in values]


def scientific(value: float | None) -> str:
    """Write an error with two digits; a dash for None."""
    return DASH if value is None else f"{value:.1e}"


def points(share: float | None) -> str:
    """Write a change of a share in points of 100, with its sign; a dash for None."""
    return DASH if share is None else f"{100 * share:+.2f}"


def per_cent(share: float | None) -> str:
    """Write a share in per cent; a dash for None."""
    return DASH if share is None else f"{100 * share:.2f}"


def is_figure(cell: str) -> bool:
    """Whether a table cell contains a figure, or the dash for a missing one.

    >>> is_figure("1.3e-07"), is_figure("fp16")
    (True, False)
    """
    return _FIGURE.fullmatch(cell) is not None
