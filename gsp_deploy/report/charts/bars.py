"""A bar a row: a whole of coloured parts, or one length."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import matplotlib as mpl
from markupsafe import Markup
from matplotlib.axes import Axes

from gsp_deploy.report.charts.canvas import STYLE, svg, tip
from gsp_deploy.report.charts.palette import colour, shade
from gsp_deploy.report.charts.rows import MIDDLE, Row, row_axes

_THICK = 0.3  # rows


@mpl.rc_context(STYLE)
def stacked(rows: Sequence[tuple[Row, Mapping[str, float]]], label: str, unit: str) -> Markup:
    """Draw each row's parts one after the other; part n of the first row has shade n in all."""
    order = list(dict.fromkeys(part for _, parts in rows for part in parts))
    figure, axes = row_axes([row for row, _ in rows], unit)
    for index, (row, parts) in enumerate(rows):
        start = 0.0
        for part, length in parts.items():
            told = f"{row.name}, {part}: {length:.4g} {unit}"
            _bar(axes, index, (start, length), colour(shade(order.index(part))), told)
            start += length
    axes.set_xlim(left=0)
    return svg(figure, label)


@mpl.rc_context(STYLE)
def lengths(rows: Sequence[tuple[Row, float]], label: str, unit: str) -> Markup:
    """Draw one bar a row in the colour of the row's mark."""
    figure, axes = row_axes([row for row, _ in rows], unit)
    for index, (row, length) in enumerate(rows):
        _bar(axes, index, (0, length), row.mark.colour, f"{row.name}: {row.figure}")
    axes.set_xlim(left=0)
    return svg(figure, label)


def _bar(axes: Axes, index: int, span: tuple[float, float], shown: str, told: str) -> None:
    """Draw a bar from a start on, of a length."""
    (bar,) = axes.barh([index + MIDDLE], [span[1]], _THICK, span[0], color=shown)
    tip(bar, told)
