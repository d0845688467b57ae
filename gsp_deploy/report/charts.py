"""The report's charts: SVG that takes its colours from the page, light or dark.

Matplotlib draws with stand-in colours, which are replaced by the page's CSS variables. Charts are
drawn at the width of a phone and stand in a grid, so that their letters are never scaled down.
"""

from __future__ import annotations

import io
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from itertools import count
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from gsp_deploy.benchmark import BenchmarkReport
from gsp_deploy.report.checks import Errors
from gsp_deploy.report.convergence import Convergence

INK, FAINT, FIRST, SECOND, BAD = "#010101", "#020202", "#030303", "#040404", "#050505"
_VARIABLES = {
    INK: "var(--ink)",
    FAINT: "var(--faint)",
    FIRST: "var(--first)",
    SECOND: "var(--second)",
    BAD: "var(--bad)",
}
WIDTH = 4.6  # inches at 72 to the inch: 331 CSS pixels
ROW = 0.34
_LONGEST_NAME = 22
_MOST_LABELS = 8
_numbers = count()

_STYLE: Any = {
    "svg.fonttype": "none",
    "svg.hashsalt": "gsp-deploy",
    "font.family": "sans-serif",
    "font.size": 8.5,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": FAINT,
    "xtick.color": INK,
    "ytick.color": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": FAINT,
    "grid.linewidth": 0.5,
}


def error_distributions(errors: Mapping[str, Errors], limits: Mapping[str, float]) -> str:
    """Draw each artifact's errors by image: a histogram by decade, its worst, and its limit."""
    with mpl.rc_context(_STYLE):
        figure, axes = _rows_figure(list(errors))
        for row, (name, error) in enumerate(errors.items()):
            _histogram_row(axes, row, error)
            if (limit := limits.get(name)) is not None and limit > 0:
                axes.plot([limit] * 2, [row - 0.42, row + 0.42], color=BAD, linewidth=1.5)
            if math.isfinite(error.maximum) and error.maximum > 0:
                axes.plot([error.maximum], [row + 0.36], "v", color=INK, markersize=4)
        axes.set_xscale("log")
        axes.set_xlim(1e-13, 1e2)
        axes.set_xticks([10.0**power for power in range(-12, 3, 3)])
        axes.minorticks_off()
        return _svg(figure)


def latencies(report: BenchmarkReport, batch: int) -> str:
    """Draw each model's latency at one batch size: p50 to p99, a dot at p50, a tick at p90."""
    rows = [
        (model.name, result.latency, result.pooling_cost)
        for model in report.models
        for result in model.batches
        if result.batch == batch
    ]
    with mpl.rc_context(_STYLE):
        figure, axes = _rows_figure([name for name, *_ in rows])
        for row, (_, latency, cost) in enumerate(rows):
            if cost is not None:
                axes.plot([cost.twin.p50], [row], "|", color=SECOND, markersize=11, mew=2)
            axes.plot([latency.p50, latency.p99], [row, row], color=FIRST, linewidth=2)
            axes.plot([latency.p90], [row], "|", color=FIRST, markersize=7)
            axes.plot([latency.p50], [row], "o", color=FIRST, markersize=5)
        axes.set_xlim(left=0)
        axes.set_xlabel("ms")
        return _svg(figure)


def pooling_share(report: BenchmarkReport, batch: int) -> str | None:
    """Draw each model's time over its twin's with average pooling: median and quartiles."""
    rows = [
        (model.name, result.pooling_cost)
        for model in report.models
        for result in model.batches
        if result.batch == batch and result.pooling_cost is not None
    ]
    if not rows:
        return None
    with mpl.rc_context(_STYLE):
        figure, axes = _rows_figure([name for name, _ in rows])
        axes.axvline(1, color=SECOND, linewidth=1.5)
        for row, (_, cost) in enumerate(rows):
            assert cost is not None
            axes.plot([cost.ratio_low, cost.ratio_high], [row, row], color=FIRST, linewidth=4)
            axes.plot([cost.ratio], [row], "o", color=INK, markersize=4)
        low, high = axes.get_xlim()
        axes.set_xlim(min(low, 0.98), max(high, 1.1))
        return _svg(figure)


def throughputs(report: BenchmarkReport) -> str | None:
    """Draw images a second against the batch size, a line a model; None with one batch size."""
    if len(report.settings.batches) < 2:
        return None
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(WIDTH, 2.6), layout="constrained")
        axes = figure.add_subplot()
        ends: list[tuple[float, str]] = []
        for model in report.models:
            points = [(result.batch, result.images_per_second) for result in model.batches]
            axes.plot(*zip(*points, strict=True), "o-", color=FIRST, markersize=3.5, linewidth=1)
            ends.append((points[-1][1], model.name))
        ends.sort()
        axes.set_xscale("log", base=2)
        axes.set_xticks(list(report.settings.batches), [str(b) for b in report.settings.batches])
        axes.minorticks_off()
        smallest, largest = min(report.settings.batches), max(report.settings.batches)
        axes.set_xlim(smallest / 1.2, largest * (largest / smallest) ** 0.45)
        highest = max(r.images_per_second for model in report.models for r in model.batches)
        axes.set_ylim(0, 1.12 * highest)
        _label_ends(axes, largest, ends)
        axes.set_xlabel("batch")
        axes.set_ylabel("images / s")
        return _svg(figure)


def convergence(found: Convergence) -> str:
    """Draw the worst weight error against the number of steps, with the certificate's mark."""
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(WIDTH, 2.9), layout="constrained")
        axes = figure.add_subplot()
        for name, curve, colour in (
            ("newton", found.newton, FIRST),
            ("fixed-point", found.fixed_point, SECOND),
        ):
            steps, errors = zip(*curve, strict=True)
            floored = [max(error, 1e-16) for error in errors]
            axes.plot(steps, floored, "o-", color=colour, markersize=3, linewidth=1.2)
            axes.annotate(
                name,
                (steps[-1], floored[-1]),
                xytext=(0, 7),
                textcoords="offset points",
                color=colour,
                ha="right",
                fontsize=8,
            )
        if found.certified is not None:
            steps_taken, error = found.certified
            axes.plot([steps_taken], [max(error, 1e-16)], "*", color=BAD, markersize=11, zorder=5)
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.set_xticks([1, 2, 5, 10, 20, 50, 100], ["1", "2", "5", "10", "20", "50", "100"])
        axes.minorticks_off()
        axes.set_xlabel("solver steps")
        return _svg(figure)


def _label_ends(axes: Axes, right: int, ends: list[tuple[float, str]]) -> None:
    """Name lines at their right ends `(height, name)`, ascending, no two names on each other.

    Of more lines than there is room for, only the lowest and the highest get their names.
    """
    if len(ends) > _MOST_LABELS:
        ends = [ends[0], ends[-1]]
    gap, lowest = 0.075 * axes.get_ylim()[1], -math.inf
    for height, name in ends:
        lowest = max(height, lowest + gap)
        axes.annotate(
            _short(name),
            (right, lowest),
            xytext=(5, 0),
            textcoords="offset points",
            fontsize=7,
            va="center",
            annotation_clip=False,
        )


def _rows_figure(names: Sequence[str]) -> tuple[Figure, Axes]:
    """Return axes with a named row each, the first on top."""
    figure = Figure(figsize=(WIDTH, 0.62 + ROW * len(names)), layout="constrained")
    axes = figure.add_subplot()
    axes.set_yticks(range(len(names)), [_short(name) for name in names])
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.grid(axis="y", visible=False)
    axes.tick_params(axis="y", length=0)
    return figure, axes


def _histogram_row(axes: Axes, row: int, error: Errors) -> None:
    edges = [error.edges[0] / 10, *error.edges, error.edges[-1] * 10]
    most = max(error.counts) or 1
    for left, right, images in zip(edges[:-1], edges[1:], error.counts, strict=True):
        if images:
            height = 0.75 * math.sqrt(images / most)
            axes.fill_between([left, right], row + 0.36, row + 0.36 - height, color=FIRST, lw=0)


def _short(name: str) -> str:
    """Return the end of a long name, where the names of a model's forms differ."""
    return name if len(name) <= _LONGEST_NAME else f"…{name[1 - _LONGEST_NAME :]}"


def _svg(figure: Figure) -> str:
    """Return the figure as an SVG element whose ids are its own on the page."""
    stream = io.StringIO()
    figure.savefig(stream, format="svg", metadata={"Date": None, "Creator": None}, transparent=True)
    text = stream.getvalue()
    text = text[text.index("<svg") :]
    for stand_in, variable in _VARIABLES.items():
        text = text.replace(stand_in, variable)
    text = re.sub(r"font: ([\d.]+)px[^;\"]*", r"font: \1px system-ui, sans-serif", text)
    return _with_own_ids(text, next(_numbers))


def _with_own_ids(text: str, number: int) -> str:
    names: Iterable[str] = set(re.findall(r' id="([^"]+)"', text))
    for name in names:
        fresh = f"c{number}-{name}"
        text = text.replace(f' id="{name}"', f' id="{fresh}"')
        text = text.replace(f'"#{name}"', f'"#{fresh}"').replace(f"url(#{name})", f"url(#{fresh})")
    return text
