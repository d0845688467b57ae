"""Draw the figure of a study: accuracy against latency, one panel per batch size."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.text import Annotation

from gsp_deploy.base.files import replacing
from gsp_deploy.precision import WORDS
from gsp_deploy.tuning.front import Point
from gsp_deploy.tuning.labels import Box, place_labels
from gsp_deploy.tuning.run import Tuning

# Colours by Okabe & Ito, because colour-blind readers can distinguish them.
_PALETTE = ("#0072B2", "#009E73", "#CC79A7", "#D55E00", "#56B4E9", "#E69F00", "#F0E442")
_COLOURS = dict(zip(WORDS, _PALETTE, strict=False))
_MARKERS = "osD^vP*X"
_PANEL = (6.4, 5.0)  # inches
_BESIDE = 1.5  # inches at the right for the names of emulated candidates
_DPI = 150


def plot_front(tuning: Tuning, path: Path, chosen: Point | None = None) -> None:
    """Write the figure as PNG. Every point has its name; the front has bold names and a line.

    Emulated precisions have no latency, so they are dashed lines at their accuracy.
    """
    batches = sorted({point.batch for point in tuning.points})
    emulated = {p.candidate: p for p in tuning.points if p.latency_ms is None}.values()
    markers = _markers(tuning.points)
    figure, axes = _panels(len(batches), _BESIDE if emulated else 0.0)
    for panel, batch in zip(axes, batches, strict=True):
        _draw(panel, tuning, batch, markers)
        if chosen is not None and chosen.batch == batch:
            panel.plot(*_place(chosen), "o", ms=15, mfc="none", mec="black", mew=1.5)
    figure.legend(
        handles=_key(tuning.points, markers, chosen), loc="outside lower center", ncols=6,
        frameon=False, fontsize="small",
    )  # fmt: skip
    figure.suptitle(f"{tuning.checkpoint.name} on {tuning.study.conditions['processor']}")
    figure.set_dpi(_DPI)
    figure.draw_without_rendering()  # now positions in pixels are known
    for panel, batch in zip(axes, batches, strict=True):
        timed = [p for p in tuning.points if p.batch == batch and p.latency_ms is not None]
        _name(panel, sorted(timed, key=lambda p: p not in tuning.front), tuning.front)
    _name_lines(axes[-1], sorted(emulated, key=lambda p: -p.map_at_r))
    with replacing(path) as temporary:
        figure.savefig(temporary, format="png", dpi=_DPI)


def _panels(count: int, beside: float) -> tuple[Figure, Sequence[Axes]]:
    """Return a figure with `count` panels, and `beside` inches of space to their right."""
    width = _PANEL[0] * count + beside
    figure = Figure(figsize=(width, _PANEL[1]), layout=None)
    figure.set_layout_engine("constrained", rect=(0, 0, 1 - beside / width, 1))
    axes = figure.subplots(1, count, sharey=True, squeeze=False)[0]
    axes[0].set_ylabel("MAP@R, points of 100")
    return figure, axes


def _draw(panel: Axes, tuning: Tuning, batch: int, markers: Mapping[int, str]) -> None:
    """Draw the points of a batch size, and a line along their front."""
    for point in (point for point in tuning.points if point.batch == batch):
        colour = _COLOURS[point.candidate.precision]
        if point.latency_ms is None:
            panel.axhline(point.map_at_r, color=colour, linewidth=0.8, linestyle="--", alpha=0.5)
        else:
            marker = markers[point.candidate.size]
            fill = "none" if point.candidate.runtime == "openvino" else colour
            panel.plot(*_place(point), marker, color=colour, mfc=fill, ms=7, alpha=0.85)
    front = [_place(point) for point in tuning.front if point.batch == batch]
    panel.plot(*zip(*front, strict=True), color="0.35", linewidth=1, drawstyle="steps-post")
    panel.margins(x=0.2, y=0.15)
    panel.set_title(f"batch {batch}")
    panel.set_xlabel("latency of one inference, ms")
    panel.grid(alpha=0.25)


def _markers(points: Sequence[Point]) -> dict[int, str]:
    """Return a marker for each input size, the largest first."""
    sizes = sorted({point.candidate.size for point in points}, reverse=True)
    return {size: _MARKERS[index % len(_MARKERS)] for index, size in enumerate(sizes)}


def _name(panel: Axes, points: Sequence[Point], front: Sequence[Point]) -> None:
    """Write each point's name next to it, those of the front in bold."""
    labels = [
        panel.annotate(
            point.form,
            _place(point),
            fontsize="x-small",
            weight="bold" if point in front else "normal",
            color="black" if point in front else "0.35",
            in_layout=False,
            bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 0.5},
        )
        for point in points
    ]
    spots = [tuple(panel.transData.transform(_place(point))) for point in points]
    _spread(panel, labels, spots, Box(*panel.get_window_extent().extents))


def _name_lines(panel: Axes, points: Sequence[Point]) -> None:
    """Write the names of emulated candidates to the right of a panel, at their accuracy."""
    frame = Box(*panel.get_window_extent().extents)
    labels = [
        panel.annotate(
            point.form, (0, point.map_at_r), fontsize="x-small",
            color=_COLOURS[point.candidate.precision], in_layout=False, annotation_clip=False,
        )
        for point in points
    ]  # fmt: skip
    spots = [(frame.right, panel.transData.transform((0, point.map_at_r))[1]) for point in points]
    _spread(panel, labels, spots, frame._replace(left=frame.right, right=math.inf))


def _spread(
    panel: Axes, labels: Sequence[Annotation], spots: Sequence[tuple[float, float]], frame: Box
) -> None:
    """Move labels near their spots, in pixels, to places where they cover nothing."""
    extents = [label.get_window_extent() for label in labels]
    sizes = [(extent.width, extent.height) for extent in extents]
    boxes = place_labels(spots, sizes, frame, gap=9 * _DPI / 72)
    for label, box in zip(labels, boxes, strict=True):
        x, y = panel.transData.inverted().transform((box.left, box.lower))
        label.set_position((float(x), float(y)))


def _place(point: Point) -> tuple[float, float]:
    return point.latency_ms or 0.0, point.map_at_r


def _key(points: Sequence[Point], markers: Mapping[int, str], chosen: Point | None) -> list[Line2D]:
    """Return the legend: a colour for each precision, a marker for each size."""
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
    if any(point.candidate.runtime == "openvino" for point in points):
        hollow = Line2D([], [], color="0.4", linestyle="", marker="o", mfc="none", label="OpenVINO")
        entries.append(hollow)
    entries.append(Line2D([], [], color="0.35", linewidth=1, label="front"))
    if chosen is not None:
        entries.append(
            Line2D([], [], linestyle="", marker="o", ms=11, mfc="none", mec="black", label="chosen")
        )
    return entries
