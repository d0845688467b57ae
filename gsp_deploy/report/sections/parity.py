"""How far each artifact is from what it was exported from: at worst, by image, gate by gate."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from gsp_deploy.report.charts.palette import PLAIN, Mark, marks_of
from gsp_deploy.report.charts.rows import Row, Spread, distributions
from gsp_deploy.report.checks import Check, Errors, Gate
from gsp_deploy.report.content import DASH, Block, Chart, Section, Table, scientific
from gsp_deploy.report.documents import Documents

_TEXT = (
    "Each artifact against its reference on the same images. The gates follow the precision: "
    "float32 is held to rounding, lower precisions to what leaves the neighbours in place."
)
_READING = (
    "Height: images in each decade, by square root. Triangle: the worst image. Good: all of it "
    "left of the red, where the gate fails."
)
# What is measured by image: the check's errors, the name of its gate, and the axis.
_MEASURES: tuple[tuple[str, str, str, Callable[[Check], Errors | None]], ...] = (
    ("Embeddings", "max_cosine_distance", "1 − cos", lambda check: check.cosine),
    ("Mixing weights", "max_weight_error", "error / spread", lambda check: check.weights),
)


def parity(documents: Documents) -> Section | None:
    """Show the checks; None without any."""
    checks = documents.checks
    if not checks:
        return None
    marks = marks_of(documents.names)
    blocks: list[Block] = [_summary(checks)]
    for measure in _MEASURES:
        blocks += _distribution(checks, marks, *measure)
    blocks += [_gates(check, label) for check, label in zip(checks, _labels(checks), strict=True)]
    return Section("Parity", _TEXT, tuple(blocks))


def _summary(checks: Sequence[Check]) -> Table:
    columns = ("artifact", "1 − cos", "weights / spread", "flips", "gates", "images", "against")
    return Table(
        "At the worst image. Flips: images whose nearest neighbour changes.",
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
        "pass" if check.passed else f"FAIL: {failed}",
        f"{check.images:,}",
        check.reference,
    )


def _distribution(
    checks: Sequence[Check],
    marks: dict[str, Mark],
    title: str,
    gate: str,
    unit: str,
    errors_of: Callable[[Check], Errors | None],
) -> list[Block]:
    """Return the chart of one error by image, and its figures; nothing where none was compared."""
    labelled = zip(_labels(checks), checks, strict=True)
    found = [(label, c, e) for label, c in labelled if (e := errors_of(c)) is not None]
    if not found:
        return []
    rows = [
        (
            Row(label, marks.get(check.name, PLAIN), scientific(errors.maximum)),
            Spread(errors, check.limit_of(gate)),
        )
        for label, check, errors in found
    ]
    label = f"{title}: {unit} by image, a histogram for each artifact"
    chart = Chart(f"{title}: {unit}, by image", _READING, distributions(rows, label, unit))
    figures = tuple(
        (label, *map(scientific, (errors.median, errors.p99, errors.maximum, check.limit_of(gate))))
        for label, check, errors in found
    )
    caption = f"{title}: {unit}, in figures"
    columns = ("artifact", "median", "p99", "worst", "limit")
    return [chart, Table(caption, columns, figures, folded=True)]


def _gates(check: Check, label: str) -> Table:
    return Table(
        f"{label}: {len(check.gates)} gates, {check.runtime} on {check.device}",
        ("gate", "measured", "limit", "result"),
        tuple(_gate_row(gate) for gate in check.gates),
        frozenset(index for index, gate in enumerate(check.gates) if not gate.passed),
        folded=True,
        note=" ".join(f"{note}." for note in check.notes),
    )


def _gate_row(gate: Gate) -> tuple[str, ...]:
    bound = "≥" if gate.name.startswith("min_") else "≤"
    result = "pass" if gate.passed else "FAIL"
    return gate.title, f"{gate.value:.3g}", f"{bound} {gate.limit:.3g}", result


def _labels(checks: Sequence[Check]) -> list[str]:
    """Return the checks' names, with the reference where one artifact was checked twice."""
    names = [check.name for check in checks]
    return [
        check.name if names.count(check.name) == 1 else f"{check.name}, against {check.reference}"
        for check in checks
    ]
