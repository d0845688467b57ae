"""The section on sustained runs: whether engines get slower, and what limited the clocks."""

from __future__ import annotations

from gsp_deploy.base.words import counted
from gsp_deploy.benchmark.gpu.sustained import Sustained
from gsp_deploy.report.content import Section, Table
from gsp_deploy.report.documents import Documents
from gsp_deploy.report.figures import DASH
from gsp_deploy.report.sections.engines import engine_results

_TEXT = (
    "Each engine runs without pause. Good: the last tenth is as fast as the first, and nothing "
    "limited the clocks. A run counts as throttled if it slowed by more than 5 % or if the device "
    "limited its clocks."
)


def sustained(documents: Documents) -> Section | None:
    """Show sustained runs; None if there are none."""
    found = [(m, m.gpu.sustained) for m in engine_results(documents) if m.gpu.sustained]
    if not found:
        return None
    table = Table(
        "",
        ("artifact", "batch", "seconds", "images/s", "first tenth", "last tenth", "throttled",
         "p99 ms", "MHz", "°C", "W", "J/image", "held down by", "read from"),
        tuple((m.name, str(m.batch), *_cells(run)) for m, run in found),
        frozenset(index for index, (_, run) in enumerate(found) if run.throttled),
    )  # fmt: skip
    return Section("Without pause", _TEXT, (table,))


def _cells(run: Sustained) -> tuple[str, ...]:
    readings = run.telemetry
    clocks = readings.gpu_mhz if readings else None
    heat = readings.celsius if readings else None
    reasons = readings.throttling.items() if readings else ()
    return (
        f"{run.seconds:.0f}",
        f"{run.images_per_second:,.0f}",
        f"{run.first:,.0f}",
        f"{run.last:,.0f}",
        "yes" if run.throttled else "no",
        f"{run.latency.p99:.3g}",
        f"{clocks[0]:.0f} to {clocks[-1]:.0f}" if clocks else DASH,
        f"{heat[0]:.0f} to {heat[-1]:.0f}" if heat else DASH,
        DASH if readings is None or readings.watts is None else f"{readings.watts:.1f}",
        DASH if run.joules_per_image is None else f"{run.joules_per_image:.3g}",
        ", ".join(f"{reason} {share:.0%}" for reason, share in reasons) or DASH,
        DASH if readings is None else f"{readings.source}, {counted(readings.samples, 'sample')}",
    )
