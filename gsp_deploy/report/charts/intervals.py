"""Values with their spread, one row per artifact: percentiles of times, quartiles of ratios."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import matplotlib as mpl
from markupsafe import Markup

from gsp_deploy.base.words import counted
from gsp_deploy.benchmark.timing import Latency
from gsp_deploy.report.charts.canvas import STYLE, svg, tip
from gsp_deploy.report.charts.palette import colour
from gsp_deploy.report.charts.rows import MIDDLE, Row, draw_mark, forbid, row_axes

_THICK = 6  # points


@dataclass(frozen=True)
class Span:
    """A ratio or a change: its median and quartiles, and the value below which a gate fails."""

    low: float
    middle: float
    high: float
    floor: float | None = None


@mpl.rc_context(STYLE)
def latencies(rows: Sequence[tuple[Row, Latency, Latency | None]], label: str) -> Markup:
    """Draw percentiles of times, and the median of the twin with average pooling."""
    figure, axes = row_axes([row for row, *_ in rows], "ms")
    for index, (row, times, twin) in enumerate(rows):
        y, shown = index + MIDDLE, row.mark.colour
        axes.plot([times.min, times.p99], [y, y], color=shown, linewidth=1.2)
        axes.plot([times.p99], [y], "|", color=shown, markersize=9, mew=1.5)
        axes.plot(
            [times.p50, times.p90], [y, y], color=shown, linewidth=_THICK, solid_capstyle="butt"
        )
        draw_mark(axes, index, row, times.p50, _in_words(times))
        if twin is not None:
            (tick,) = axes.plot([twin.p50], [y], "|", color=colour("ink"), ms=15, mew=2)
            tip(tick, f"average pooling: p50 {twin.p50:.3g} ms")
    axes.set_xlim(left=0)
    return svg(figure, label)


@mpl.rc_context(STYLE)
def spans(
    rows: Sequence[tuple[Row, Span]],
    neutral: float,
    label: str,
    unit: str,
    narrowest: tuple[float, float],
) -> Markup:
    """Draw medians with their quartiles against a neutral value.

    Args:
        rows: what to draw.
        neutral: value of the upright line.
        label: for screen readers.
        unit: of the axis.
        narrowest: the axis covers at least this range, so that noise does not look like an effect.
    """
    figure, axes = row_axes([row for row, _ in rows], unit)
    for index, (row, span) in enumerate(rows):
        y = index + MIDDLE
        axes.plot([neutral, neutral], [y - 0.16, y + 0.16], color=colour("ink"), linewidth=1.5)
        axes.plot(
            [span.low, span.high], [y, y], color=row.mark.colour, linewidth=_THICK, alpha=0.45,
            solid_capstyle="butt",
        )  # fmt: skip
        draw_mark(axes, index, row, span.middle, row.figure)
    low, high = axes.get_xlim()
    low, high = min(low, narrowest[0]), max(high, narrowest[1])
    axes.set_xlim(low, high)
    for index, (_, span) in enumerate(rows):
        if span.floor is not None:
            forbid(axes, index, span.floor, low)
    return svg(figure, label)


def _in_words(times: Latency) -> str:
    return (
        f"p50 {times.p50:.3g}, p90 {times.p90:.3g}, p99 {times.p99:.3g}, max {times.max:.3g} ms "
        f"in {counted(times.rounds, 'round')}"
    )
