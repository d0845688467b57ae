"""The section on latency: percentiles, pooling cost, throughput, memory and pre-processing."""

from __future__ import annotations

from collections.abc import Iterator

from gsp_deploy.benchmark import BenchmarkReport
from gsp_deploy.report.charts.curves import Line, Scale, curves
from gsp_deploy.report.charts.intervals import Span, latencies, spans
from gsp_deploy.report.charts.palette import Mark, marks_of
from gsp_deploy.report.charts.rows import Row
from gsp_deploy.report.content import Block, Chart, Key, Section, Table, rows_from
from gsp_deploy.report.documents import Documents
from gsp_deploy.report.figures import DASH, aligned

_TEXT = (
    "One inference of a whole batch. All models take turns, so a machine that slows down slows all "
    "of them. One inference in a hundred takes longer than p99. × GAP compares with the same "
    "network with average pooling, round by round: 1 means that the pooling costs nothing."
)
_PERCENTILES = ("p50", "p90", "p99", "max")


def latency(documents: Documents) -> Section | None:
    """Show the benchmarks; None if there are none."""
    marks = marks_of(documents.names)
    blocks = [block for report in documents.benchmarks for block in _blocks(report, marks)]
    return Section("Latency", _TEXT, tuple(blocks)) if blocks else None


def _blocks(report: BenchmarkReport, marks: dict[str, Mark]) -> Iterator[Block]:
    yield _table(report)
    for batch in report.settings.batches:
        yield _percentiles(report, marks, batch)
    for batch in report.settings.batches:
        if cost := _pooling_cost(report, marks, batch):
            yield cost
    if len(report.settings.batches) > 1:
        yield _throughput(report, marks)
    if memory := _memory(report):
        yield memory
    if stages := _image_stages(report):
        yield stages


def _table(report: BenchmarkReport) -> Table:
    found = report.results
    costs = [result.pooling_cost for _, result in found]
    return Table(
        f"Milliseconds on {report.environment.processor}",
        ("artifact", "batch", *_PERCENTILES, "images/s", "× GAP", "GAP p50"),
        rows_from(
            [model.name for model, _ in found],
            [str(result.batch) for _, result in found],
            *(aligned([getattr(r.latency, point) for _, r in found]) for point in _PERCENTILES),
            [f"{result.images_per_second:,.0f}" for _, result in found],
            aligned([None if cost is None else cost.ratio for cost in costs]),
            aligned([None if cost is None else cost.twin.p50 for cost in costs]),
        ),
        note=" ".join(f"{note}." for note in report.notes),
    )


def _percentiles(report: BenchmarkReport, marks: dict[str, Mark], batch: int) -> Chart:
    found = [(model, result) for model, result in report.results if result.batch == batch]
    figures = aligned([result.latency.p50 for _, result in found])
    rows = [
        (
            Row(model.name, marks[model.name], f"{figure} ms"),
            result.latency,
            None if result.pooling_cost is None else result.pooling_cost.twin,
        )
        for (model, result), figure in zip(found, figures, strict=True)
    ]
    title = f"Latency, batch {batch}"
    caption = "Mark and figure: p50. Bar: p50 to p90. Line: minimum to p99."
    if any(twin for _, _, twin in rows):
        caption += " Upright line: p50 with average pooling."
    return Chart(title, caption, latencies(rows, title))


def _pooling_cost(report: BenchmarkReport, marks: dict[str, Mark], batch: int) -> Chart | None:
    rows = [
        (
            Row(model.name, marks[model.name], f"{cost.ratio:.3f} ×"),
            Span(cost.ratio_low, cost.ratio, cost.ratio_high),
        )
        for model, result in report.results
        if result.batch == batch and (cost := result.pooling_cost) is not None
    ]
    if not rows:
        return None
    title = f"Against average pooling, batch {batch}"
    caption = (
        "Time relative to the same network with average pooling: median and quartiles of the "
        "rounds. Good: near the line, which means equal times."
    )
    return Chart(title, caption, spans(rows, 1, title, "× average pooling", (0.98, 1.1)))


def _throughput(report: BenchmarkReport, marks: dict[str, Mark]) -> Chart:
    lines = [
        Line(
            model.name,
            marks[model.name],
            [(result.batch, result.images_per_second) for result in model.batches],
        )
        for model in report.models
    ]
    title = "Throughput by batch size"
    batches = Scale("batch", "log", report.settings.batches)
    drawn = curves(lines, batches, Scale("images / s", start=0), title)
    legend = tuple(Key(line.name, line.mark.swatch) for line in lines)
    return Chart(title, "At p50. If a line is flat, larger batches gain nothing.", drawn, legend)


def _memory(report: BenchmarkReport) -> Table | None:
    found = [(m, r) for m, r in report.results if r.peak_memory_mb is not None]
    if not found:
        return None
    return Table(
        "Peak resident memory in MiB, one process per model",
        ("artifact", "batch", "peak", "with GAP", "runtime alone"),
        rows_from(
            [model.name for model, _ in found],
            [str(result.batch) for _, result in found],
            *(
                [DASH if mib is None else f"{mib:,.0f}" for mib in column]
                for column in (
                    [result.peak_memory_mb for _, result in found],
                    [result.twin_memory_mb for _, result in found],
                    [model.idle_memory_mb for model, _ in found],
                )
            ),
        ),
        folded=True,
    )


def _image_stages(report: BenchmarkReport) -> Table | None:
    found = [(m.name, m.preprocessing) for m in report.models if m.preprocessing is not None]
    if not found:
        return None
    return Table(
        f"From an image to the network's input, p50 in ms on one thread: {found[0][1].source}",
        ("artifact", "decode", "resize", "normalise"),
        rows_from(
            [name for name, _ in found],
            aligned([stages.decode.p50 for _, stages in found]),
            aligned([stages.resize.p50 for _, stages in found]),
            aligned([None if s.normalise is None else s.normalise.p50 for _, s in found]),
        ),
        folded=True,
    )
