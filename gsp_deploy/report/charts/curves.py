"""Line charts over steps, batch sizes or ranks, with one line per series."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import matplotlib as mpl
from markupsafe import Markup
from matplotlib.axes import Axes

from gsp_deploy.report.charts.canvas import STYLE, new_axes, svg, tip
from gsp_deploy.report.charts.palette import Mark, colour

_HEIGHT, _LEFT, _BOTTOM = 3.0, 0.62, 0.44  # inches
_ON_LINE, _ALONE = 5.0, 9.0
# A log axis has no zero, so zeros are drawn here, below any error that float64 resolves.
_FLOOR = 1e-16


@dataclass(frozen=True)
class Line:
    """A named line: its mark, and at least one point `(x, y)`; a single point is drawn large."""

    name: str
    mark: Mark
    points: Sequence[tuple[float, float]]


@dataclass(frozen=True)
class Scale:
    """An axis: its unit, linear or logarithmic, its ticks and its start; None chooses freely."""

    unit: str
    kind: Literal["linear", "log"] = "linear"
    ticks: Sequence[int] | None = None
    start: float | None = None


@mpl.rc_context(STYLE)
def curves(lines: Sequence[Line], x: Scale, y: Scale, label: str) -> Markup:
    """Draw lines on common axes, each point with its own tip."""
    figure, axes = new_axes(_HEIGHT, _LEFT, _BOTTOM)
    _set_scales(axes, x, y)
    for line in lines:
        _draw(axes, line, _FLOOR if y.kind == "log" else -math.inf)
    if y.start is not None:
        axes.set_ylim(bottom=y.start)
    return svg(figure, label)


def _draw(axes: Axes, line: Line, floor: float) -> None:
    """Draw a line and its points; points below the floor are drawn on it."""
    drawn = [(x, max(y, floor)) for x, y in line.points]
    size, above = (_ON_LINE, 3) if len(drawn) > 1 else (_ALONE, 5)
    axes.plot(*zip(*drawn, strict=True), color=line.mark.colour, linewidth=1.4)
    for (x, y), (_, value) in zip(drawn, line.points, strict=True):
        (point,) = axes.plot(
            [x], [y], line.mark.shape, color=line.mark.colour, ms=size, mec=colour("card"),
            mew=0.8, zorder=above,
        )  # fmt: skip
        tip(point, f"{line.name}: {value:,.4g} at {x:,g}")


def _set_scales(axes: Axes, x: Scale, y: Scale) -> None:
    axes.set_xlabel(x.unit)
    axes.set_ylabel(y.unit)
    axes.set_yscale(y.kind)
    axes.set_xscale(x.kind)
    axes.grid(axis="x", visible=False)
    if x.ticks is not None:
        axes.set_xticks(list(x.ticks), [str(tick) for tick in x.ticks])
    axes.minorticks_off()
    axes.margins(x=0.06, y=0.1)
