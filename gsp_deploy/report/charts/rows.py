"""Charts with a row an artifact: its name and figure, and below them a mark on a common scale."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import matplotlib as mpl
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from gsp_deploy.benchmark.timing import Latency
from gsp_deploy.report.charts.canvas import LETTERS, STYLE, new_axes, svg, tip
from gsp_deploy.report.charts.palette import Mark, colour
from gsp_deploy.report.checks import Errors

_ROW, _AXIS = 0.52, 0.46  # inches
_LONGEST = 44
# Where in its row, from -0.5 at the top to 0.5, the name stands and the marks are centred.
NAME, MIDDLE, FOOT = -0.25, 0.2, 0.42


@dataclass(frozen=True)
class Row:
    """The artifact of a row: its name, its mark, and the figure that stands at the row's right."""

    name: str
    mark: Mark
    figure: str


@dataclass(frozen=True)
class Spread:
    """One error by image, and the limit of its gate, if there is one."""

    errors: Errors
    limit: float | None


@dataclass(frozen=True)
class Span:
    """A ratio or a change: its middle and quartiles, and below what value a gate fails."""

    low: float
    middle: float
    high: float
    floor: float | None = None


def distributions(rows: Sequence[tuple[Row, Spread]], label: str, unit: str) -> Markup:
    """Draw errors by image: a histogram by decade, the worst image, and what fails the gate."""
    with mpl.rc_context(STYLE):
        figure, axes = row_axes([row for row, _ in rows], unit)
        axes.set_xscale("log")
        low, high = _decades([spread for _, spread in rows])
        axes.set_xlim(low, high)
        step = max(1, math.ceil(math.log10(high / low) / 6))
        powers = range(round(math.log10(low)) + 1, round(math.log10(high)) + 1, step)
        axes.set_xticks([10.0**power for power in powers])
        axes.minorticks_off()
        for index, (row, spread) in enumerate(rows):
            _histogram(axes, index, row.mark, spread.errors)
            if spread.limit:
                _forbidden(axes, index, spread.limit, high)
            worst = spread.errors.maximum
            if math.isfinite(worst) and worst > 0:
                (point,) = axes.plot(
                    [max(worst, low)], [index + FOOT], "v", color=colour("ink"), markersize=5,
                    clip_on=False, zorder=4,
                )  # fmt: skip
                tip(point, f"worst image: {worst:.1e}")
        return svg(figure, label)


def latencies(rows: Sequence[tuple[Row, Latency, Latency | None]], label: str) -> Markup:
    """Draw percentiles of times, and the median of the twin with average pooling."""
    with mpl.rc_context(STYLE):
        figure, axes = row_axes([row for row, *_ in rows], "ms")
        for index, (row, times, twin) in enumerate(rows):
            y, shown = index + MIDDLE, row.mark.colour
            axes.plot([times.min, times.p99], [y, y], color=shown, linewidth=1.2)
            axes.plot([times.p99], [y], "|", color=shown, markersize=9, mew=1.5)
            axes.plot(
                [times.p50, times.p90], [y, y], color=shown, linewidth=6, solid_capstyle="butt"
            )
            (point,) = axes.plot([times.p50], [y], row.mark.shape, color=shown, markersize=8)
            tip(
                point,
                f"{row.name}: p50 {times.p50:.3g}, p90 {times.p90:.3g}, p99 {times.p99:.3g}, "
                f"max {times.max:.3g} ms in {times.rounds} rounds",
            )
            if twin is not None:
                (tick,) = axes.plot([twin.p50], [y], "|", color=colour("ink"), ms=15, mew=2)
                tip(tick, f"average pooling: p50 {twin.p50:.3g} ms")
        axes.set_xlim(left=0)
        return svg(figure, label)


def spans(
    rows: Sequence[tuple[Row, Span]],
    neutral: float,
    label: str,
    unit: str,
    narrowest: tuple[float, float],
) -> Markup:
    """Draw middles with their quartiles against a neutral value.

    Args:
        rows: what to draw.
        neutral: value of the upright line.
        label: for those who cannot see the chart.
        unit: of the axis.
        narrowest: the axis holds this at least, so that noise does not look like an effect.
    """
    with mpl.rc_context(STYLE):
        figure, axes = row_axes([row for row, _ in rows], unit)
        for index, (row, span) in enumerate(rows):
            y = index + MIDDLE
            axes.plot([neutral, neutral], [y - 0.16, y + 0.16], color=colour("ink"), linewidth=1.5)
            axes.plot(
                [span.low, span.high], [y, y], color=row.mark.colour, linewidth=6, alpha=0.45,
                solid_capstyle="butt",
            )  # fmt: skip
            (point,) = axes.plot(
                [span.middle], [y], row.mark.shape, color=row.mark.colour, markersize=8
            )
            tip(point, f"{row.name}: {row.figure}")
        low, high = axes.get_xlim()
        axes.set_xlim(min(low, narrowest[0]), max(high, narrowest[1]))
        for index, (_, span) in enumerate(rows):
            if span.floor is not None:
                _forbidden(axes, index, span.floor, axes.get_xlim()[0])
        return svg(figure, label)


def row_axes(rows: Sequence[Row], unit: str) -> tuple[Figure, Axes]:
    """Return axes with a row for each, the first on top, their names and figures written."""
    figure, axes = new_axes(0.1 + _ROW * len(rows) + _AXIS, 0.16, _AXIS)
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.set_yticks([])
    axes.grid(axis="y", visible=False)
    axes.locator_params(axis="x", nbins=6)
    axes.set_xlabel(unit)
    for index, row in enumerate(rows):
        for x, text, side in ((0, row.name, "left"), (1, row.figure, "right")):
            text = shortened(text, _LONGEST - len(row.figure)) if side == "left" else text
            axes.text(
                x, index + NAME, text, ha=side, va="center", fontsize=LETTERS, zorder=5,
                transform=axes.get_yaxis_transform(),
                bbox={"facecolor": colour("card"), "edgecolor": "none", "pad": 1},
            )  # fmt: skip
    return figure, axes


def shortened(name: str, longest: int = _LONGEST) -> str:
    """Return the end of a long name, where the names of a model's forms differ."""
    return name if len(name) <= longest else f"…{name[1 - longest :]}"


def _histogram(axes: Axes, index: int, mark: Mark, errors: Errors) -> None:
    edges = [errors.edges[0] / 10, *errors.edges, errors.edges[-1] * 10]
    most = max(errors.counts) or 1
    for left, right, images in zip(edges[:-1], edges[1:], errors.counts, strict=True):
        if images:
            top = index + FOOT - 0.44 * math.sqrt(images / most)
            bar = axes.fill_between([left, right], index + FOOT, top, color=mark.colour, lw=0)
            low = f"from {left:.0e} " if left in errors.edges else ""
            high = f"below {right:.0e}" if right in errors.edges else "on"
            tip(bar, f"{images} images {low}{high}")


def _forbidden(axes: Axes, index: int, limit: float, end: float) -> None:
    """Shade what lies beyond a row's limit."""
    top, foot = index - 0.02, index + FOOT
    area = axes.fill_between([limit, end], foot, top, color=colour("bad"), alpha=0.16, lw=0)
    (line,) = axes.plot([limit, limit], [top, foot], color=colour("bad"), linewidth=1.5)
    for artist in (area, line):
        tip(artist, f"beyond the gate's limit of {limit:.2g}")


def _decades(spreads: Sequence[Spread]) -> tuple[float, float]:
    """Return whole decades that hold every histogram and every limit, and a decade beyond."""
    lows, highs = [], [1e-8]
    for spread in spreads:
        edges = spread.errors.edges
        filled = [index for index, images in enumerate(spread.errors.counts) if images]
        bounds = [edges[0] / 10, *edges, edges[-1] * 10]
        if filled:
            lows.append(bounds[filled[0]])
            highs.append(bounds[filled[-1] + 1])
        if spread.limit and math.isfinite(spread.limit):
            highs.append(10.0 ** (math.floor(math.log10(spread.limit)) + 2))
    return min(lows, default=1e-13), max(highs)
