"""The first section: one row per artifact with its parity and latency."""

from __future__ import annotations

from collections.abc import Sequence

from gsp_deploy.benchmark.report import BatchResult
from gsp_deploy.parity.document import Check
from gsp_deploy.report.content import Section, Table, rows_from
from gsp_deploy.report.documents import Documents
from gsp_deploy.report.figures import DASH, FAIL, PASS, aligned, points, scientific

_TEXT = (
    "Good: every gate passes, ΔMAP@R (points of 100) is near 0, and × GAP, the time relative "
    "to the same network with average pooling, is near 1."
)


def glance(documents: Documents) -> Section | None:
    """Show parity and latency side by side; None unless there are both."""
    if not documents.checks or not documents.benchmarks:
        return None
    measured = _measured(documents)
    names = [name for name in documents.names if name in measured or documents.checks_of(name)]
    checks = [documents.checks_of(name) for name in names]
    results = [measured.get(name) for name in names]
    costs = [None if result is None else result.pooling_cost for result in results]
    batch = min(documents.benchmarks[0].settings.batches)
    outcomes = [_outcome(found) for found in checks]
    table = Table(
        "",
        ("artifact", "gates", "1 − cos, worst", "ΔMAP@R", f"p50 ms, batch {batch}", "× GAP"),
        rows_from(
            names,
            outcomes,
            [scientific(max((c.cosine.maximum for c in found), default=None)) for found in checks],
            [points(_least_change(found)) for found in checks],
            aligned([None if result is None else result.latency.p50 for result in results]),
            aligned([None if cost is None else cost.ratio for cost in costs]),
        ),
        frozenset(index for index, outcome in enumerate(outcomes) if outcome == FAIL),
    )
    return Section("At a glance", _TEXT, (table,))


def _outcome(checks: Sequence[Check]) -> str:
    if not checks:
        return DASH
    return PASS if all(check.passed for check in checks) else FAIL


def _least_change(checks: Sequence[Check]) -> float | None:
    """Return the worst change of MAP@R; None if it was not measured."""
    changes = (check.change_of("map_at_r") for check in checks)
    return min((change for change in changes if change is not None), default=None)


def _measured(documents: Documents) -> dict[str, BatchResult]:
    """Return each model's result at the smallest batch of the first benchmark."""
    report = documents.benchmarks[0]
    smallest = min(report.settings.batches)
    return {model.name: result for model, result in report.results if result.batch == smallest}
