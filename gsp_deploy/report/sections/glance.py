"""The first section: one row an artifact, its outcome."""

from __future__ import annotations

from gsp_deploy.benchmark.report import BatchResult
from gsp_deploy.report.content import DASH, Section, Table, aligned, columns_of, points, scientific
from gsp_deploy.report.documents import Documents


def glance(documents: Documents) -> Section | None:
    """Put parity and latency side by side; None where there are not both."""
    if not documents.checks or not documents.benchmarks:
        return None
    checks = {check.name: check for check in documents.checks}
    measured = _measured(documents)
    names = [name for name in documents.names if name in checks or name in measured]
    found = [(checks.get(name), measured.get(name)) for name in names]
    batch = min(documents.benchmarks[0].settings.batches)
    costs = [None if result is None else result.pooling_cost for _, result in found]
    table = Table(
        "",
        ("artifact", "gates", "1 − cos, worst", "ΔMAP@R", f"p50 ms, batch {batch}", "× GAP"),
        columns_of(
            names,
            [DASH if c is None else "pass" if c.passed else "FAIL" for c, _ in found],
            [DASH if c is None else scientific(c.cosine.maximum) for c, _ in found],
            [DASH if c is None else points(c.change_of("map_at_r")) for c, _ in found],
            aligned([None if result is None else result.latency.p50 for _, result in found]),
            aligned([None if cost is None else cost.ratio for cost in costs]),
        ),
        frozenset(i for i, (check, _) in enumerate(found) if check and not check.passed),
    )
    text = (
        "Good: every gate passes, ΔMAP@R (points of 100) is near 0, and × GAP, the time relative "
        "to the same network with average pooling, is near 1."
    )
    return Section("At a glance", text, (table,))


def _measured(documents: Documents) -> dict[str, BatchResult]:
    """Return each model's result at the first benchmark's smallest batch, where it has one."""
    report = documents.benchmarks[0]
    smallest = min(report.settings.batches)
    return {
        model.name: result
        for model in report.models
        for result in model.batches
        if result.batch == smallest
    }
