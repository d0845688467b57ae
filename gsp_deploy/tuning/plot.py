"""The figure of a study: accuracy against latency, a panel a batch size."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from gsp_deploy.files import replacing
from gsp_deploy.tuning.front import Point
from gsp_deploy.tuning.run import Tuning

# Colours of Okabe & Ito, which remain apart for colour-blind eyes.
_COLOURS = {"fp32": "#0072B2", "fp16": "#009E73", "bf16": "#CC79A7", "int8": "#D55E00"}
_MARKERS = "osD^vP*X"
_PANEL = (5.2, 4.4)  # inches


def plot_front(tuning: Tuning, path: Path, chosen: Point | None = None) -> None:
    """Write the figure as PNG.

    Emulated precisions have no latency: they stand as dashed lines at their accuracy.
    """
    batches = sorted({point.batch for point in tuning.points})
    sizes = sorted({point.candidate.size for point in tuning.points}, reverse=True)
    markers = {size: _MARKERS[i % len(_MARKERS)] for i, size in enumerate(sizes)}
    figure = Figure(figsize=(_PANEL[0] * len(batches), _PANEL[1]), layout="constrained")
    axes = figure.subplots(1, len(batches), sharey=True, squeeze=False)[0]
    for panel, batch in zip(axes, batches, strict=True):
        _draw(panel, [p for p in tuning.points if p.batch == batch], markers)
        front = [point for point in tuning.front if point.batch == batch]
        panel.plot(*_coordinates(front), color="0.35", linewidth=1, drawstyle="steps-post")
        panel.margins(x=0.14, y=0.1)
        for point in front:
            _label(panel, point)
        if chosen is not None and chosen.batch == batch:
            panel.plot(*_coordinates([chosen]), "o", ms=15, mfc="none", mec="black", mew=1.5)
        panel.set_title(f"batch {batch}")
        panel.set_xlabel("latency of one inference, ms")
        panel.grid(alpha=0.25)
    axes[0].set_ylabel("MAP@R, points")
    figure.legend(
        handles=_key(tuning.points, markers, chosen), loc="outside lower center", ncols=6,
        frameon=False, fontsize="small",
    )  # fmt: skip
    figure.suptitle(f"{tuning.checkpoint.name} on {tuning.study.conditions['processor']}")
    with replacing(path) as temporary:
        figure.savefig(temporary, format="png", dpi=150)


def _draw(panel: Axes, points: Sequence[Point], markers: dict[int, str]) -> None:
    for point in points:
        colour = _COLOURS[point.candidate.precision]
        if point.latency_ms is None:
            panel.axhline(point.map_at_r, color=colour, linewidth=0.8, linestyle="--", alpha=0.5)
        else:
            marker = markers[point.candidate.size]
            panel.plot(point.latency_ms, point.map_at_r, marker, color=colour, ms=7, alpha=0.85)


def _label(panel: Axes, point: Point) -> None:
    """Name a point of the front, on the side of it that lies inside the panel."""
    steps = "" if point.solver_steps is None else f", {point.solver_steps} st."
    latency = point.latency_ms or 0.0
    left, right = panel.get_xlim()
    beyond_middle = latency > (left + right) / 2
    panel.annotate(
        f"{point.candidate.precision} {point.candidate.size}{steps}",
        (latency, point.map_at_r),
        xytext=(-6 if beyond_middle else 6, -11),
        textcoords="offset points",
        horizontalalignment="right" if beyond_middle else "left",
        fontsize="x-small",
    )


def _coordinates(points: Sequence[Point]) -> tuple[list[float], list[float]]:
    return [point.latency_ms or 0.0 for point in points], [point.map_at_r for point in points]


def _key(points: Sequence[Point], markers: dict[int, str], chosen: Point | None) -> list[Line2D]:
    """Return the legend: precisions by colour, sizes by shape."""
    entries = []
    for precision, colour in _COLOURS.items():
        found = [point for point in points if point.candidate.precision == precision]
        if found and all(point.latency_ms is None for point in found):
            label = f"{precision}, emulated"
            entries.append(Line2D([], [], color=colour, linestyle="--", label=label))
        elif found:
            entries.append(Line2D([], [], color=colour, linewidth=4, label=precision))
    for size, marker in markers.items():
        entries.append(Line2D([], [], color="0.4", linestyle="", marker=marker, label=f"{size} px"))
    entries.append(Line2D([], [], color="0.35", linewidth=1, label="front"))
    if chosen is not None:
        entries.append(
            Line2D([], [], linestyle="", marker="o", ms=11, mfc="none", mec="black", label="chosen")
        )
    return entries
