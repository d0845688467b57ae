"""The sections on GPU engines: stages of one inference, and layers by time and by type."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from gsp_deploy.base.words import counted
from gsp_deploy.benchmark.gpu.layers import LayerProfile
from gsp_deploy.benchmark.gpu.result import GpuResult
from gsp_deploy.benchmark.gpu.stages import StageTimes
from gsp_deploy.report.charts.bars import lengths, stacked
from gsp_deploy.report.charts.palette import PLAIN, Mark, marks_of, shade, square
from gsp_deploy.report.charts.rows import Row
from gsp_deploy.report.content import Block, Chart, Key, Section, Table, rows_from
from gsp_deploy.report.documents import Documents, NamedArtifact
from gsp_deploy.report.figures import DASH, aligned
from gsp_deploy.runtime.timeline import STAGES

# How many parts of an engine are shown one by one; the rest are added up.
MOST_PARTS = 12
_HEAD = Mark("s2", "o")
_STAGE_TITLES = ("to GPU", "compute", "from GPU", "enqueue", "end to end")
_STAGES_TEXT = (
    "One inference from page-locked host memory and back, timed by CUDA events. Enqueue is the "
    "host's work to start it, and overlaps with the other stages. Good: compute is most of end to "
    "end, and with CUDA graphs enqueue is short."
)
_LAYERS_TEXT = (
    "How long each part of the engine takes, by TensorRT's profiler: modules of the PyTorch model "
    "and steps of the solver. Good: the pooling head, in colour, takes a few per cent."
)


class EngineResult(NamedTuple):
    """The measurements of one engine at one batch size."""

    name: str
    batch: int
    gpu: GpuResult

    @property
    def label(self) -> str:
        """The engine's name and batch size, as text."""
        return f"{self.name}, batch {self.batch}"


def stages(documents: Documents) -> Section | None:
    """Show the stages of engines' inferences; None if no engine was measured."""
    found = engine_results(documents)
    if not found:
        return None
    notes = dict.fromkeys(f"No CUDA graphs: {m.gpu.no_graphs}." for m in found if m.gpu.no_graphs)
    marks = marks_of(documents.names)
    blocks: list[Block] = [_stages_table(found), _stages_chart(found, marks)]
    if costs := _costs_table(found):
        blocks.append(costs)
    return Section("Stages on the GPU", " ".join([_STAGES_TEXT, *notes]), tuple(blocks))


def layers(documents: Documents) -> Section | None:
    """Show engines' layers by part and time, and by type; None if there are no engines."""
    blocks: list[Block] = []
    for measured in engine_results(documents):
        if measured.gpu.layers is not None:
            blocks += _by_part(measured.label, measured.gpu.layers)
    if engines := [artifact for artifact in documents.artifacts if artifact.engine is not None]:
        blocks += _by_type(engines, marks_of(documents.names))
    return Section("Engine layers", _LAYERS_TEXT, tuple(blocks)) if blocks else None


def engine_results(documents: Documents) -> list[EngineResult]:
    """Return all measurements of engines on a GPU."""
    return [
        EngineResult(model.name, result.batch, result.gpu)
        for report in documents.benchmarks
        for model, result in report.results
        if result.gpu is not None
    ]


def _stages_table(found: Sequence[EngineResult]) -> Table:
    rows: list[tuple[EngineResult, str, StageTimes]] = []
    for measured in found:
        if measured.gpu.with_graphs is not None:
            rows.append((measured, "on", measured.gpu.with_graphs))
        rows.append((measured, "off", measured.gpu.without_graphs))
    return Table(
        "p50 in ms",
        ("artifact", "batch", "graphs", *_STAGE_TITLES),
        rows_from(
            [measured.name for measured, _, _ in rows],
            [str(measured.batch) for measured, _, _ in rows],
            [graphs for _, graphs, _ in rows],
            *(aligned([getattr(times, stage).p50 for *_, times in rows]) for stage in STAGES),
        ),
    )


def _stages_chart(found: Sequence[EngineResult], marks: dict[str, Mark]) -> Chart:
    shown = dict(zip(STAGES[:3], _STAGE_TITLES[:3], strict=True))
    rows = [
        (
            Row(m.label, marks[m.name], f"{m.gpu.stages.end_to_end.p50:.3g} ms end to end"),
            {title: getattr(m.gpu.stages, stage).p50 for stage, title in shown.items()},
        )
        for m in found
    ]
    title = "One inference in stages"
    legend = tuple(Key(name, square(shade(index))) for index, name in enumerate(shown.values()))
    caption = "p50 of each stage, with CUDA graphs if the engine uses them."
    return Chart(title, caption, stacked(rows, title, "ms"), legend)


def _costs_table(found: Sequence[EngineResult]) -> Table | None:
    costs = [(m, m.gpu.cost) for m in found if m.gpu.cost is not None]
    if not costs:
        return None
    return Table(
        "GPU compute against the same network with average pooling",
        ("artifact", "batch", "extra ms", "× GAP", "quartiles"),
        tuple(
            (
                measured.name,
                str(measured.batch),
                f"{cost.extra_ms:+.3g}",
                f"{cost.ratio:.3f}",
                f"{cost.ratio_low:.3f} to {cost.ratio_high:.3f}",
            )
            for measured, cost in costs
        ),
    )


def _by_part(label: str, profile: LayerProfile) -> list[Block]:
    """Return a chart of the parts that take longest, and the same as a table."""
    parts, total = list(profile.parts().items()), profile.total
    shown, rest = parts[:MOST_PARTS], parts[MOST_PARTS:]
    if rest:
        shown.append((f"{len(rest)} more", sum(milliseconds for _, milliseconds in rest)))
    shares = [f"{ms / total:.1%}" if total else DASH for _, ms in shown]
    rows = [
        (Row(part, _HEAD if part.startswith("head") else PLAIN, f"{ms:.3g} ms, {share}"), ms)
        for (part, ms), share in zip(shown, shares, strict=True)
    ]
    head = f"the pooling head takes {profile.head_share:.1%}"
    title = f"{label}: {head}"
    names = [part for part, _ in shown]
    figures = rows_from(names, aligned([ms for _, ms in shown]), shares)
    caption = f"By part of the model, medians of {counted(profile.runs, 'run')}."
    return [
        Chart(title, caption, lengths(rows, title, "ms")),
        Table(f"{title}, in figures", ("part", "ms", "share"), figures, folded=True),
    ]


def _by_type(engines: Sequence[NamedArtifact], marks: dict[str, Mark]) -> list[Block]:
    """Return how many layers output each element type, as a chart and a table."""
    found = [(a.name, a.engine.precision) for a in engines if a.engine is not None]
    types = sorted({dtype for _, precision in found for dtype in precision.layers})
    rows = [
        (
            Row(name, marks[name], counted(sum(precision.layers.values()), "layer")),
            {dtype: precision.layers.get(dtype, 0) for dtype in types},
        )
        for name, precision in found
    ]
    title = "Layers by the element type of their result"
    legend = tuple(Key(dtype, square(shade(index))) for index, dtype in enumerate(types))
    caption = "As built if the engine could be inspected, else as parsed."
    table = Table(
        f"{title}, in figures",
        ("engine", "asked for", "seen in the", *types),
        tuple(
            (name, p.asked, p.verified_on, *(str(p.layers.get(dtype, 0)) for dtype in types))
            for name, p in found
        ),
        folded=True,
    )
    return [Chart(title, caption, stacked(rows, title, "layers"), legend), table]
