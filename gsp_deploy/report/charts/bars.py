"""Charts with a bar a row: a whole of coloured parts, or one length."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import matplotlib as mpl
from markupsafe import Markup

from gsp_deploy.report.charts.canvas import STYLE, svg, tip
from gsp_deploy.report.charts.palette import colour, shade
from gsp_deploy.report.charts.rows import MIDDLE, Row, row_axes

_THICK = 0.3


def stacked(rows: Sequence[tuple[Row, Mapping[str, float]]], label: str, unit: str) -> Markup:
    """Draw each row's parts one after the other; part n of the first row has shade n in all."""
    order = list(dict.fromkeys(part for _, parts in rows for part in parts))
    with mpl.rc_context(STYLE):
        figure, axes = row_axes([row for row, _ in rows], unit)
        for index, (row, parts) in enumerate(rows):
            start = 0.0
            for part, length in parts.items():
                (bar,) = axes.barh(
                    [index + MIDDLE],
                    [length],
                    _THICK,
                    start,
                    color=colour(shade(order.index(part))),
                )
                tip(bar, f"{row.name}, {part}: {length:.4g} {unit}")
                start += length
        axes.set_xlim(left=0)
        return svg(figure, label)


def lengths(rows: Sequence[tuple[Row, float]], label: str, unit: str) -> Markup:
    """Draw one bar a row in the colour of the row's mark."""
    with mpl.rc_context(STYLE):
        figure, axes = row_axes([row for row, _ in rows], unit)
        for index, (row, length) in enumerate(rows):
            (bar,) = axes.barh([index + MIDDLE], [length], _THICK, color=row.mark.colour)
            tip(bar, f"{row.name}: {row.figure}")
        axes.set_xlim(left=0)
        return svg(figure, label)
