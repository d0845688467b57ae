"""Bar charts with one bar per row: stacked parts, or a single length."""

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
    """Draw each row's parts end to end; a part has the same shade in every row."""
    order = list(dict.fromkeys(part for _, parts in rows for part in parts))
    figure, axes = row_axes([row for row, _ in rows], unit)
    for index, (row, parts) in enumerate(rows):
        start = 0.0
        for part, length in parts.items():
            text = f"{row.name}, {part}: {length:.4g} {unit}"
            _bar(axes, index, (start, length), colour(shade(order.index(part))), text)
            start += length
    axes.set_xlim(left=0)
    return svg(figure, label)


@mpl.rc_context(STYLE)
def lengths(rows: Sequence[tuple[Row, float]], label: str, unit: str) -> Markup:
    """Draw one bar per row in the colour of the row's mark."""
    figure, axes = row_axes([row for row, _ in rows], unit)
    for index, (row, length) in enumerate(rows):
        _bar(axes, index, (0, length), row.mark.colour, f"{row.name}: {row.figure}")
    axes.set_xlim(left=0)
    return svg(figure, label)


def _bar(axes: Axes, index: int, span: tuple[float, float], shown: str, text: str) -> None:
    """Draw a bar; `span` is its start and its length, `text` its tip."""
    (bar,) = axes.barh([index + MIDDLE], [span[1]], _THICK, span[0], color=shown)
    tip(bar, text)
