"""Axes with one row per artifact: its name and its figure, and room for marks below them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from gsp_deploy.report.charts.canvas import LETTERS, new_axes, tip
from gsp_deploy.report.charts.palette import Mark, colour

_ROW, _AXIS = 0.52, 0.46  # inches
_LONGEST = 44
_MARK = 8
# Heights in a row, from -0.5 at its top to 0.5: the name, the centre of marks, the foot of bars.
NAME, MIDDLE, FOOT = -0.25, 0.2, 0.42


@dataclass(frozen=True)
class Row:
    """The artifact of a row: its name, its mark, and the figure at the row's right."""

    name: str
    mark: Mark
    figure: str


def row_axes(rows: Sequence[Row], unit: str) -> tuple[Figure, Axes]:
    """Return axes with a row for each artifact, the first on top, with its name and figure."""
    figure, axes = new_axes(0.1 + _ROW * len(rows) + _AXIS, 0.16, _AXIS)
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.set_yticks([])
    axes.grid(axis="y", visible=False)
    axes.locator_params(axis="x", nbins=6)
    axes.set_xlabel(unit)
    for index, row in enumerate(rows):
        _write(axes, index, shortened(row.name, _LONGEST - len(row.figure)), "left")
        _write(axes, index, row.figure, "right")
    return figure, axes


def draw_mark(axes: Axes, index: int, row: Row, x: float, text: str) -> None:
    """Draw a row's mark at `x`, with `text` as its tip."""
    (point,) = axes.plot(
        [x], [index + MIDDLE], row.mark.shape, color=row.mark.colour, markersize=_MARK
    )
    tip(point, f"{row.name}: {text}")


def forbid(axes: Axes, index: int, limit: float, end: float) -> None:
    """Shade a row from `limit` to `end`, the region that fails its gate."""
    top, foot = index - 0.02, index + FOOT
    area = axes.fill_between([limit, end], foot, top, color=colour("bad"), alpha=0.16, lw=0)
    (line,) = axes.plot([limit, limit], [top, foot], color=colour("bad"), linewidth=1.5)
    for artist in (area, line):
        tip(artist, f"beyond the gate's limit of {limit:.2g}")


def shortened(name: str, longest: int = _LONGEST) -> str:
    """Return the end of a long name, because the names of a model's variants differ there."""
    return name if len(name) <= longest else f"…{name[1 - longest :]}"


def _write(axes: Axes, index: int, text: str, side: str) -> None:
    axes.text(
        0 if side == "left" else 1, index + NAME, text, ha=side, va="center", fontsize=LETTERS,
        zorder=5, transform=axes.get_yaxis_transform(),
        bbox={"facecolor": colour("card"), "edgecolor": "none", "pad": 1},
    )  # fmt: skip
