"""Histograms of errors by image, one row per artifact: images in each decade, and the limit."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import matplotlib as mpl
from markupsafe import Markup
from matplotlib.axes import Axes

from gsp_deploy.base.words import counted
from gsp_deploy.parity.document import Errors
from gsp_deploy.report.charts.canvas import STYLE, svg, tip
from gsp_deploy.report.charts.palette import Mark, colour
from gsp_deploy.report.charts.rows import FOOT, Row, forbid, row_axes

_HEIGHT = 0.44  # of the highest bar, in rows
_MOST_TICKS = 6


@dataclass(frozen=True)
class Spread:
    """One error by image, and the limit of its gate, if there is one."""

    errors: Errors
    limit: float | None


@mpl.rc_context(STYLE)
def distributions(rows: Sequence[tuple[Row, Spread]], label: str, unit: str) -> Markup:
    """Draw a histogram by decade, the worst image, and the region that fails the gate."""
    figure, axes = row_axes([row for row, _ in rows], unit)
    low, high = _decades([spread for _, spread in rows])
    _set_decades(axes, low, high)
    for index, (row, spread) in enumerate(rows):
        _histogram(axes, index, row.mark, spread.errors)
        if spread.limit is not None and spread.limit > 0:
            forbid(axes, index, spread.limit, high)
        _worst(axes, index, spread.errors.maximum, low)
    return svg(figure, label)


def _decades(spreads: Sequence[Spread]) -> tuple[float, float]:
    """Return whole decades that contain every histogram and every limit, and one decade more."""
    lows, highs = [], [1e-8]
    for spread in spreads:
        bounds = _bounds(spread.errors)
        if filled := [index for index, images in enumerate(spread.errors.counts) if images]:
            lows.append(bounds[filled[0]])
            highs.append(bounds[filled[-1] + 1])
        if spread.limit is not None and 0 < spread.limit < math.inf:
            highs.append(10.0 ** (math.floor(math.log10(spread.limit)) + 2))
    return min(lows, default=1e-13), max(highs)


def _set_decades(axes: Axes, low: float, high: float) -> None:
    step = max(1, math.ceil(math.log10(high / low) / _MOST_TICKS))
    powers = range(round(math.log10(low)) + 1, round(math.log10(high)) + 1, step)
    axes.set_xscale("log")
    axes.set_xlim(low, high)
    axes.set_xticks([10.0**power for power in powers])
    axes.minorticks_off()


def _histogram(axes: Axes, index: int, mark: Mark, errors: Errors) -> None:
    bounds, most = _bounds(errors), max(errors.counts) or 1
    for left, right, images in zip(bounds[:-1], bounds[1:], errors.counts, strict=True):
        if images:
            top = index + FOOT - _HEIGHT * math.sqrt(images / most)
            bar = axes.fill_between([left, right], index + FOOT, top, color=mark.colour, lw=0)
            low = f"from {left:.0e} " if left in errors.edges else ""
            high = f"below {right:.0e}" if right in errors.edges else "on"
            tip(bar, f"{counted(images, 'image')} {low}{high}")


def _worst(axes: Axes, index: int, worst: float, low: float) -> None:
    if not (math.isfinite(worst) and worst > 0):
        return
    (point,) = axes.plot(
        [max(worst, low)], [index + FOOT], "v", color=colour("ink"), markersize=5,
        clip_on=False, zorder=4,
    )  # fmt: skip
    tip(point, f"worst image: {worst:.1e}")


def _bounds(errors: Errors) -> list[float]:
    """Return where each bar begins and ends; the first and the last are a decade wide."""
    return [errors.edges[0] / 10, *errors.edges, errors.edges[-1] * 10]
