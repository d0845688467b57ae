"""The section on parity: each artifact's error against its reference, by image and by gate."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from gsp_deploy.base.words import counted
from gsp_deploy.parity.document import Check, Errors
from gsp_deploy.parity.gates import Gate
from gsp_deploy.report.charts.distributions import Spread, distributions
from gsp_deploy.report.charts.palette import PLAIN, Mark, marks_of
from gsp_deploy.report.charts.rows import Row
from gsp_deploy.report.content import Block, Chart, Section, Table, rows_from
from gsp_deploy.report.documents import Documents
from gsp_deploy.report.figures import DASH, FAIL, PASS, scientific
from gsp_deploy.report.names import labels_of

_TEXT = (
    "Each artifact against its reference on the same images. The gates depend on the precision: "
    "float32 may differ by rounding only, lower precisions as long as the neighbours stay the same."
)
_READING = (
    "Height: square root of the number of images in each decade. Triangle: the worst image. Red: "
    "the gate fails. Good: everything is left of the red."
)


class _Measure(NamedTuple):
    """An error by image: its title, gate and unit, and how to read it from a check."""

    title: str
    gate: str
    unit: str
    errors_of: Callable[[Check], Errors | None]


_MEASURES = (
    _Measure("Embeddings", "max_cosine_distance", "1 − cos", lambda check: check.cosine),
    _Measure("Mixing weights", "max_weight_error", "error / spread", lambda check: check.weights),
)


def parity(documents: Documents) -> Section | None:
    """Show the checks; None if there are none."""
    checks = documents.checks
    if not checks:
        return None
    marks = marks_of(documents.names)
    blocks: list[Block] = [_summary(checks)]
    for measure in _MEASURES:
        blocks += _distribution(checks, marks, measure)
    blocks += map(_gates, checks, labels_of(checks))
    return Section("Parity", _TEXT, tuple(blocks))


def _summary(checks: Sequence[Check]) -> Table:
    columns = ("artifact", "1 − cos", "weights / spread", "flips", "gates", "images", "against")
    return Table(
        "At the worst image. Flips: how many images get another nearest neighbour.",
        columns,
        tuple(_summary_row(check) for check in checks),
        frozenset(index for index, check in enumerate(checks) if not check.passed),
    )


def _summary_row(check: Check) -> tuple[str, ...]:
    flips = DASH if check.top1_flips is None else f"{check.top1_flips} of {check.queries}"
    failed = ", ".join(gate.title for gate in check.failed_gates)
    return (
        check.name,
        scientific(check.cosine.maximum),
        scientific(None if check.weights is None else check.weights.maximum),
        flips,
        PASS if check.passed else f"{FAIL}: {failed}",
        f"{check.images:,}",
        check.reference,
    )


def _distribution(
    checks: Sequence[Check], marks: dict[str, Mark], measure: _Measure
) -> list[Block]:
    """Return a chart of one error by image and its figures; empty if no check measured it."""
    labelled = zip(labels_of(checks), checks, strict=True)
    found = [(label, c, e) for label, c in labelled if (e := measure.errors_of(c)) is not None]
    if not found:
        return []
    rows = [
        (
            Row(label, marks.get(check.name, PLAIN), scientific(errors.maximum)),
            Spread(errors, check.limit_of(measure.gate)),
        )
        for label, check, errors in found
    ]
    what = f"{measure.title}: {measure.unit}"
    drawn = distributions(rows, f"{what} by image, a histogram for each artifact", measure.unit)
    figures = rows_from(
        [label for label, _, _ in found],
        [scientific(errors.median) for *_, errors in found],
        [scientific(errors.p99) for *_, errors in found],
        [scientific(errors.maximum) for *_, errors in found],
        [scientific(check.limit_of(measure.gate)) for _, check, _ in found],
    )
    columns = ("artifact", "median", "p99", "worst", "limit")
    return [
        Chart(f"{what}, by image", _READING, drawn),
        Table(f"{what}, in figures", columns, figures, folded=True),
    ]


def _gates(check: Check, label: str) -> Table:
    return Table(
        f"{label}: {counted(len(check.gates), 'gate')}, {check.runtime} on {check.device}",
        ("gate", "measured", "limit", "result"),
        tuple(_gate_row(gate) for gate in check.gates),
        frozenset(index for index, gate in enumerate(check.gates) if not gate.passed),
        folded=True,
        note=" ".join(f"{note}." for note in check.notes),
    )


def _gate_row(gate: Gate) -> tuple[str, ...]:
    bound = "≥" if gate.name.startswith("min_") else "≤"
    result = PASS if gate.passed else FAIL
    return gate.title, f"{gate.value:.3g}", f"{bound} {gate.limit:.3g}", result
