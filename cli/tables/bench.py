"""Print the results of `gsp-deploy bench`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gsp_deploy.base.words import counted
from gsp_deploy_cli.tables import show
from gsp_deploy_cli.tables.bench_gpu import show_gpu

if TYPE_CHECKING:
    from gsp_deploy.benchmark import BenchmarkReport, Comparison
    from gsp_deploy.benchmark.report import ImageStages, ModelResult


def show_report(report: BenchmarkReport, comparison: Comparison | None, json: bool) -> None:
    from gsp_deploy.benchmark.report import DOCUMENT, VERSION

    for note in report.notes:
        show.remark(note)
    if json:
        compared = {} if comparison is None else {"comparison": comparison.to_dict()}
        show.document(DOCUMENT, {**report.to_dict(), **compared}, VERSION)
        return
    _show_latency(report)
    _show_pooling_cost(report)
    show_gpu(report)
    _show_surroundings(report)
    _show_conditions(report)
    if comparison is not None:
        _show_comparison(comparison)


def _show_latency(report: BenchmarkReport) -> None:
    rows = []
    for model, result in report.results:
        t = result.latency
        times = (_ms(value) for value in (t.p50, t.p90, t.p95, t.p99, t.max))
        throughput = f"{result.images_per_second:.4g}"
        rows.append((model.name, str(result.batch), *times, throughput))
    columns = ("model", "batch", "p50", "p90", "p95", "p99", "max", "img/s")
    show.table("Latency of one inference, ms", columns, rows)


def _show_pooling_cost(report: BenchmarkReport) -> None:
    rows = []
    for model, result in report.results:
        if cost := result.pooling_cost:
            times = (_ms(result.latency.p50), _ms(cost.twin.p50), f"{cost.extra_ms:+.3g}")
            spread = f"{_ratio(cost.ratio_low)}-{_ratio(cost.ratio_high)}"
            rows.append((model.name, str(result.batch), *times, _ratio(cost.ratio), spread))
    if rows:
        columns = ("model", "batch", "p50", "GAP p50", "extra", "ratio", "quartiles")
        show.table("Against the same network with average pooling (GAP), ms", columns, rows)
    for model in report.models:
        if model.no_twin:
            show.remark(f"{model.name} has no twin with average pooling: {model.no_twin}")


def _show_surroundings(report: BenchmarkReport) -> None:
    rows = []
    for model in report.models:
        largest = max(model.batches, key=lambda result: result.batch)
        memory = (model.idle_memory_mb, largest.peak_memory_mb, largest.twin_memory_mb)
        rows.append((model.name, *_stage_times(model.preprocessing), *map(_mb, memory)))
    columns = ("model", "decode", "resize", "normalise", "idle", "peak", "GAP peak")
    title = "Pre-processing of an image, p50 in ms, and memory of a process, MiB"
    show.table(title, columns, rows)


def _stage_times(stages: ImageStages | None) -> tuple[str, str, str]:
    if stages is None:
        return "-", "-", "-"
    normalise = _ms(stages.normalise.p50) if stages.normalise else "in graph"
    return _ms(stages.decode.p50), _ms(stages.resize.p50), normalise


def _show_conditions(report: BenchmarkReport) -> None:
    settings, machine = report.settings, report.environment
    threads = settings.threads or "the runtime's choice"
    rounds = report.models[0].batches[0].latency.rounds
    warmup = counted(settings.warmup, "round")
    load = "" if report.load_average is None else f", load {report.load_average:.1f} before"
    packages = ", ".join(f"{name} {version}" for name, version in machine.packages.items())
    rows = [
        ("processor", f"{machine.processor}, {counted(machine.cores, 'core')}{load}"),
        ("system", f"{machine.system}, Python {machine.python}"),
        ("packages", packages),
        (
            "settings",
            f"threads: {threads}; {warmup} of warm-up, {rounds} counted",
        ),
        *((model.name, _what_it_is(model)) for model in report.models),
        *_images(report),
        *(tuple(line.split(": ", 1)) for line in report.included),
    ]
    show.facts("Conditions", rows)  # type: ignore[arg-type]


def _images(report: BenchmarkReport) -> list[tuple[str, str]]:
    sources = {m.preprocessing.source for m in report.models if m.preprocessing}
    return [("image", f"{source}, one thread") for source in sorted(sources)]


def _what_it_is(model: ModelResult) -> str:
    parts = [model.runtime, model.device, model.precision, model.arithmetic, model.backbone]
    return ", ".join(part for part in (*parts, model.solver) if part)


def _show_comparison(comparison: Comparison) -> None:
    rows = [
        (c.model, str(c.batch), c.measure, f"{c.before:.3f}", f"{c.now:.3f}", f"{c.relative:+.1%}")
        for c in comparison.changes
    ]
    columns = ("model", "batch", "figure", "before", "now", "change")
    show.table(
        f"Against the earlier result, at most +{comparison.max_regression:.1%}", columns, rows
    )
    if not comparison.regressions:
        show.out.print("no median is slower by more")


def _ms(value: float) -> str:
    return f"{value:.4g}" if value < 1000 else f"{value:.0f}"


def _ratio(value: float) -> str:
    return f"{value:.3f}" if value < 10 else f"{value:.1f}"


def _mb(value: float | None) -> str:
    return "-" if value is None else f"{value:.0f}"
