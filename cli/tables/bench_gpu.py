"""Print what `gsp-deploy bench` measured of engines on a GPU."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from gsp_deploy.base.words import counted
from gsp_deploy_cli.tables import show

if TYPE_CHECKING:
    from gsp_deploy.benchmark import BenchmarkReport, BenchmarkSettings
    from gsp_deploy.benchmark.gpu.result import GpuResult
    from gsp_deploy.benchmark.gpu.stages import StageTimes
    from gsp_deploy.benchmark.gpu.sustained import Sustained
    from gsp_deploy.benchmark.report import ModelResult

SHOWN_PARTS = 12


def show_gpu(report: BenchmarkReport) -> None:
    """Print stages, the pooling's share of the compute, layers and sustained runs."""
    found = list(_results(report))
    if not found:
        return
    _show_stages(found)
    _show_cost(found)
    for model, batch, gpu in found:
        _show_layers(model, batch, gpu)
        if gpu.sustained is not None:
            _show_sustained(f"{model.name}, batch {batch}", gpu.sustained)


def _results(report: BenchmarkReport) -> Iterator[tuple[ModelResult, int, GpuResult]]:
    for model, result in report.results:
        if result.gpu is not None:
            yield model, result.batch, result.gpu


Found = Sequence[tuple["ModelResult", int, "GpuResult"]]


def _show_stages(found: Found) -> None:
    rows = []
    for model, batch, gpu in found:
        if gpu.with_graphs is not None:
            rows.append((model.name, str(batch), "on", *_times(gpu.with_graphs)))
        rows.append((model.name, str(batch), "off", *_times(gpu.without_graphs)))
    columns = ("model", "batch", "graphs", "to GPU", "compute", "from GPU", "enqueue", "all")
    show.table("In stages on the GPU, with CUDA graphs on and off, p50 in ms", columns, rows)
    for reason in dict.fromkeys(gpu.no_graphs for _, _, gpu in found if gpu.no_graphs):
        show.remark(f"no CUDA graphs: {reason}")


def _times(stages: StageTimes) -> list[str]:
    from gsp_deploy.runtime.timeline import STAGES

    return [f"{getattr(stages, name).p50:.4g}" for name in STAGES]


def _show_cost(found: Found) -> None:
    rows = [
        (
            model.name,
            str(batch),
            f"{gpu.cost.extra_ms:+.3g}",
            f"{gpu.cost.ratio:.3f}",
            f"{gpu.cost.ratio_low:.3f}-{gpu.cost.ratio_high:.3f}",
        )
        for model, batch, gpu in found
        if gpu.cost is not None
    ]
    if rows:
        columns = ("model", "batch", "extra ms", "ratio", "quartiles")
        show.table("GPU compute against average pooling (GAP)", columns, rows)


def _show_layers(model: ModelResult, batch: int, gpu: GpuResult) -> None:
    if gpu.layers is None:
        return
    parts, total = gpu.layers.parts(), gpu.layers.total
    last = "unattributed"
    named = [(part, ms) for part, ms in parts.items() if part != last]
    rows = named[:SHOWN_PARTS]
    if rest := named[SHOWN_PARTS:]:
        rows.append((counted(len(rest), "more part"), sum(ms for _, ms in rest)))
    rows.append((last, parts.get(last, 0.0)))
    show.table(
        f"Layers of {model.name}, batch {batch}: head {gpu.layers.head_share:.1%} of the compute",
        ("part", "ms", "share"),
        [(part, f"{ms:.4g}", f"{ms / total:.1%}" if total else "-") for part, ms in rows],
    )


def _show_sustained(title: str, run: Sustained) -> None:
    rows = [
        ("ran for", f"{run.seconds:.1f} s, {run.images_per_second:.4g} images/s"),
        ("at its ends", f"{run.first:.4g} images/s in the first tenth, {run.last:.4g} in the last"),
        ("throttled", "yes" if run.throttled else "no"),
    ]
    if run.joules_per_image is not None:
        rows.append(("energy", f"{run.joules_per_image:.4g} J an image"))
    if telemetry := run.telemetry:
        if telemetry.gpu_mhz is not None:
            low, middle, high = telemetry.gpu_mhz
            rows.append(("GPU clock", f"{low:.0f} to {high:.0f} MHz, median {middle:.0f}"))
        if telemetry.celsius is not None:
            rows.append(
                ("temperature", f"{telemetry.celsius[0]:.0f} to {telemetry.celsius[1]:.0f} C")
            )
        if telemetry.watts is not None:
            rows.append(("power", f"{telemetry.watts:.1f} W on average"))
        rows += [
            (reason, f"{share:.0%} of the time") for reason, share in telemetry.throttling.items()
        ]
        rows.append(("measured by", f"{telemetry.source}, {counted(telemetry.samples, 'sample')}"))
    show.facts(f"Without pause: {title}", rows)


def show_trtexec(
    models: Sequence[Path], settings: BenchmarkSettings, plugins: Sequence[Path], json: bool
) -> None:
    """Print, for each engine and batch size, the commands for trtexec 10 and 11."""
    from gsp_deploy.benchmark.gpu.trtexec import MAJORS, measured, trtexec_command

    commands = [
        {
            "model": str(model),
            "batch": batch,
            "trtexec": major,
            "command": trtexec_command(measured(model, batch, settings, plugins), settings, major),
        }
        for model in models
        for batch in settings.batches
        for major in MAJORS
    ]
    if json:
        show.document("trtexec", {"commands": commands})
        return
    for command in commands:
        print(f"# trtexec {command['trtexec']}, batch {command['batch']}")
        print(command["command"])
    show.note(
        "note: bench warms up by rounds, trtexec for 200 ms; bench --wait auto leaves the way of "
        "waiting to the driver, trtexec does not: pass --wait spin or block to compare"
    )
