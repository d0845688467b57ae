"""The section on retrieval: metrics on the images of the checks, and of evaluations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from gsp_deploy.base.words import counted
from gsp_deploy.parity.document import Check
from gsp_deploy.report.charts.curves import Line, Scale, curves
from gsp_deploy.report.charts.intervals import Span, spans
from gsp_deploy.report.charts.palette import PLAIN, Mark, marks_of
from gsp_deploy.report.charts.rows import Row
from gsp_deploy.report.content import Block, Chart, Key, Section, Table
from gsp_deploy.report.documents import Documents
from gsp_deploy.report.figures import DASH, per_cent, points
from gsp_deploy.report.names import labels_of
from gsp_deploy.retrieval.document import RECALL, Evaluated

_TEXT = (
    "Each image is searched among the others. Values in per cent, changes in points of 100. R@1: "
    "the nearest image is of the query's class. MAP@R: all images of that class come before any "
    "other."
)
_METRICS = {"recall_at_1": "R@1", "map_at_r": "MAP@R", "r_precision": "R-precision"}


def retrieval(documents: Documents) -> Section | None:
    """Show retrieval metrics; None if no searched images had classes."""
    marks = marks_of(documents.names)
    searched = [check for check in documents.checks if check.after]
    blocks = [*_checked(searched, marks)] if searched else []
    for found in documents.evaluations:
        blocks += _evaluated(found, marks)
    return Section("Retrieval", _TEXT, tuple(blocks)) if blocks else None


def _checked(checks: Sequence[Check], marks: dict[str, Mark]) -> list[Block]:
    """Return metrics of the references, and of the candidates with their changes."""
    rows = [
        _metrics_row(name, before)
        for name, before in {c.reference: c.before for c in checks}.items()
    ]
    for label, check in zip(labels_of(checks), checks, strict=True):
        rows.append(_metrics_row(label, check.after, check))
    columns = (
        "model",
        *(name for title in _METRICS.values() for name in (title, "Δ")),
        "nearest kept",
    )
    images = counted(max(check.images for check in checks), "image")
    table = Table(f"On the {images} of the parity checks", columns, tuple(rows))
    return [table, *_change_of_map(checks, marks)]


def _change_of_map(checks: Sequence[Check], marks: dict[str, Mark]) -> list[Chart]:
    rows = []
    for label, check in zip(labels_of(checks), checks, strict=True):
        change, limit = check.change_of("map_at_r"), check.limit_of("max_map_drop")
        if change is not None:
            row = Row(label, marks.get(check.name, PLAIN), points(change))
            floor = None if limit is None else -100 * limit
            rows.append((row, Span(100 * change, 100 * change, 100 * change, floor)))
    if not rows:
        return []
    title = "MAP@R: change against the reference"
    caption = "Line: the reference. Red: a loss that fails the gate. Good: on the line."
    return [Chart(title, caption, spans(rows, 0, title, "points of 100", (-0.7, 0.7)))]


def _metrics_row(
    name: str, metrics: Mapping[str, float], check: Check | None = None
) -> tuple[str, ...]:
    cells = [name]
    for metric in _METRICS:
        change = DASH if check is None else points(check.change_of(metric))
        cells += [per_cent(metrics.get(metric)), change]
    return (*cells, per_cent(_nearest_kept(check)))


def _nearest_kept(check: Check | None) -> float | None:
    """Return the share of the k nearest images that stay, for the largest k that was checked."""
    if check is None or not check.overlap:
        return None
    return check.overlap[max(check.overlap)]


def _evaluated(found: Evaluated, marks: dict[str, Mark]) -> list[Block]:
    """Return the metrics of an evaluation, and a chart of R@k if there are several k."""
    images = counted(found.images, "image")
    classes = counted(found.classes, "class", "classes")
    table = Table(
        f"{found.dataset}: {images} of {classes}",
        ("model", *map(_title, found.metrics)),
        tuple(
            (model, *(per_cent(metrics[name]) for name in found.metrics))
            for model, metrics in found.models.items()
        ),
        note=" ".join(f"{note}." for note in found.notes),
    )
    return [table] if len(found.ranks) < 2 else [table, _recalls(found, marks)]


def _recalls(found: Evaluated, marks: dict[str, Mark]) -> Chart:
    lines = [
        Line(
            name,
            marks.get(name, PLAIN),
            [(rank, 100 * metrics[f"{RECALL}{rank}"]) for rank in found.ranks],
        )
        for name, metrics in found.models.items()
    ]
    title = f"R@k on {found.dataset}"
    drawn = curves(lines, Scale("k", "log", found.ranks), Scale("per cent"), title)
    legend = tuple(Key(line.name, line.mark.swatch) for line in lines)
    return Chart(
        title, "Share of images with an image of their class among the k nearest.", drawn, legend
    )


def _title(metric: str) -> str:
    return _METRICS.get(metric) or metric.replace(RECALL, "R@")
