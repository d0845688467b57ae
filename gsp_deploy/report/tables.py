"""The report's tables as rows of words, the same for HTML and Markdown."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from gsp_deploy.benchmark import BenchmarkReport
from gsp_deploy.benchmark.gpu.layers import LayerProfile
from gsp_deploy.manifest import SolverCertificate
from gsp_deploy.report.checks import Check, Evaluated, Gate
from gsp_deploy.report.documents import Artifact

DASH = "-"
# Parts of an engine that a table names; the others are summed.
MOST_PARTS = 20


@dataclass(frozen=True)
class Table:
    """A table: a caption, the columns' names, and rows of words; `bad` rows are marked."""

    caption: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    bad: frozenset[int] = frozenset()

    @property
    def numeric(self) -> frozenset[int]:
        """The columns that hold figures, which are set to the right."""
        return frozenset(
            index
            for index in range(1, len(self.columns))
            if all(_is_figure(row[index]) for row in self.rows)
        )


def artifacts_table(artifacts: Sequence[Artifact]) -> Table:
    """Say what was deployed: form, precision, solver and what its certificate states."""
    return Table(
        "Artifacts",
        ("artifact", "form", "precision", "input", "solver", "certified error"),
        tuple(_artifact_row(artifact) for artifact in artifacts),
    )


def parity_table(checks: Sequence[Check]) -> Table:
    """Say how far each artifact is from its reference, at worst, and whether every gate held."""
    return Table(
        "Parity, worst image",
        (
            "artifact",
            "against",
            "images",
            "1 - cos",
            "weights / spread",
            "flips",
            "ΔR@1",
            "ΔMAP@R",
            "gates",
        ),
        tuple(_parity_row(check) for check in checks),
        frozenset(index for index, check in enumerate(checks) if not check.passed),
    )


def gates_table(check: Check) -> Table:
    """List one check's gates."""
    return Table(
        f"{check.name}: gates",
        ("gate", "measured", "limit", ""),
        tuple(_gate_row(gate) for gate in check.gates),
        frozenset(index for index, gate in enumerate(check.gates) if not gate.passed),
    )


def latency_table(report: BenchmarkReport) -> Table:
    """List latency percentiles, throughput, and the time over that with average pooling."""
    rows = []
    for model in report.models:
        for result in model.batches:
            times = result.latency
            cost = result.pooling_cost
            rows.append(
                (
                    model.name,
                    str(result.batch),
                    *(f"{t:.3g}" for t in (times.p50, times.p90, times.p99, times.max)),
                    f"{result.images_per_second:,.0f}",
                    DASH if cost is None else f"{cost.ratio:.3f}",
                )
            )
    return Table(
        "Latency of one inference, ms",
        ("model", "batch", "p50", "p90", "p99", "max", "images/s", "x GAP"),
        tuple(rows),
    )


def layers_tables(report: BenchmarkReport) -> list[Table]:
    """Say where each engine's compute goes, by part of the model; none for other runtimes."""
    return [
        _layers_table(f"{model.name}, batch {result.batch}", result.gpu.layers)
        for model in report.models
        for result in model.batches
        if result.gpu is not None and result.gpu.layers is not None
    ]


def _layers_table(name: str, profile: LayerProfile) -> Table:
    parts, total = list(profile.parts().items()), profile.total
    rest = parts[MOST_PARTS:]
    shown = [*parts[:MOST_PARTS], *([("the rest", sum(ms for _, ms in rest))] if rest else [])]
    return Table(
        f"{name}: layers by part of the model, the pooling head {profile.head_share:.1%}",
        ("part", "ms", "share"),
        tuple((part, f"{ms:.3f}", f"{ms / total:.1%}" if total else DASH) for part, ms in shown),
    )


def layer_types_table(artifacts: Sequence[Artifact]) -> Table | None:
    """Count each engine's layers by the element type of their result; None without engines."""
    engines = [(a.name, a.engine.precision) for a in artifacts if a.engine is not None]
    if not engines:
        return None
    types = sorted({dtype for _, precision in engines for dtype in precision.layers})
    return Table(
        "Layers of the engines' networks by element type of their result",
        ("engine", "asked", *types),
        tuple(
            (name, precision.asked, *(str(precision.layers.get(dtype, 0)) for dtype in types))
            for name, precision in engines
        ),
    )


def retrieval_table(evaluated: Evaluated) -> Table:
    """List retrieval metrics in per cent."""
    names = tuple(next(iter(evaluated.models.values()), {}))
    return Table(
        f"{evaluated.dataset}: {evaluated.images:,} images of {evaluated.classes:,} classes, "
        "per cent",
        ("model", *(_metric_name(name) for name in names)),
        tuple(
            (model, *(f"{100 * metrics[name]:.2f}" for name in names))
            for model, metrics in evaluated.models.items()
        ),
    )


def conditions_table(report: BenchmarkReport) -> Table:
    """Say on what and how it was measured."""
    machine, settings = report.environment, report.settings
    threads = settings.threads or "the runtime's choice"
    load = "unknown" if report.load_average is None else f"{report.load_average:.1f}"
    rows = [
        ("processor", f"{machine.processor}, {machine.cores} cores, load {load} before the run"),
        ("system", f"{machine.system}, Python {machine.python}"),
        ("packages", ", ".join(f"{name} {v}" for name, v in machine.packages.items())),
        ("threads", str(threads)),
        *((name, text) for name, _, text in (line.partition(": ") for line in report.included)),
    ]
    return Table("Conditions", ("", ""), tuple(rows))


def _artifact_row(artifact: Artifact) -> tuple[str, ...]:
    engine = artifact.engine
    export = artifact.export if engine is None else engine.export
    form = "ONNX" if engine is None else f"{engine.flavour} {engine.tensorrt_version}"
    precision = export.precision if export is not None else DASH
    if engine is not None:
        precision = engine.precision.asked
    certificate = None if export is None else export.certificate
    source = export.inputs[0] if export is not None else None
    return (
        artifact.name,
        form,
        precision,
        DASH if source is None else f"{source.dtype} {' x '.join(map(str, source.shape))}",
        DASH if certificate is None else f"{certificate.solver}, {certificate.steps} steps",
        DASH if certificate is None else _certified(certificate),
    )


def _certified(certificate: SolverCertificate) -> str:
    error = f"{certificate.worst_relative_weight_error:.1e}"
    return error if certificate.is_converged else f"{error}, not converged"


def _parity_row(check: Check) -> tuple[str, ...]:
    flips = DASH if check.top1_flips is None else f"{check.top1_flips} of {check.queries}"
    return (
        check.name,
        check.reference,
        str(check.images),
        f"{check.cosine.maximum:.1e}",
        DASH if check.weights is None else f"{check.weights.maximum:.1e}",
        flips,
        _points(check.recall_change),
        _points(check.map_change),
        "pass" if check.passed else f"FAIL: {', '.join(g.title for g in check.failed_gates)}",
    )


def _gate_row(gate: Gate) -> tuple[str, ...]:
    return gate.title, f"{gate.value:.3g}", f"{gate.limit:.3g}", "pass" if gate.passed else "FAIL"


def _is_figure(cell: str) -> bool:
    return cell[:1] in "+-0123456789" and " x " not in cell


def _points(share: float | None) -> str:
    return DASH if share is None else f"{100 * share:+.2f}"


def _metric_name(name: str) -> str:
    known = {"map_at_r": "MAP@R", "r_precision": "R-precision"}
    return known.get(name) or name.replace("recall_at_", "R@")
