"""Print what `gsp-deploy check` found, in 80 columns."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.text import Text

from gsp_deploy.base.words import counted
from gsp_deploy.parity.gates import figure
from gsp_deploy_cli.tables import show

if TYPE_CHECKING:
    from gsp_deploy.parity import Distribution, Gate, ParityReport
    from gsp_deploy.parity.layers import LayerReport, NodeError
    from gsp_deploy.parity.retrieval import RetrievalAgreement
    from gsp_deploy.runtime.session import SessionInfo

NAME_WIDTH = 18
NODE_WIDTH, OPERATOR_WIDTH, MODULE_WIDTH = 20, 13, 29
WHOLE_GRAPH = 30
MILESTONES = 12
AROUND = 3
ALARMING = "bold red"


def show_parity(report: ParityReport) -> None:
    """Print what ran, the errors, the neighbours, and the verdict of each gate."""
    _show_subject(report)
    _show_errors(report)
    show_gates(report.gates)
    for line in report.figures.notes:
        show.remark(line)
    show.skipped(report.skipped)


def _show_subject(report: ParityReport) -> None:
    batch = report.figures.invariance
    sizes = ", ".join(map(str, batch.sizes))
    same = "bitwise the same" if batch.bitwise else f"change {figure(batch.position_error)}"
    rows = [
        ("reference", _running(report.reference)),
        ("candidate", _running(report.candidate)),
        *_solver_facts(report.candidate),
        ("images", f"{len(report.ids):,}"),
        *_retrieval_facts(report.figures.retrieval),
        ("batching", f"sizes {sizes}, every position: {same}; leak {figure(batch.leak)}"),
    ]
    show.facts(f"{report.candidate.path.name} against {report.reference.path.name}", rows)


def _solver_facts(info: SessionInfo) -> list[tuple[str, str]]:
    """Return what the candidate's export proved and measured of its solver."""
    certificate = None if info.manifest is None else info.manifest.certificate
    if certificate is None:
        return []
    return [
        ("solver", certificate.steps_in_words),
        ("guarantee", certificate.guarantee_in_words),
        ("measured", certificate.measured_in_words),
    ]


def _running(info: SessionInfo) -> str:
    return f"{info.precision}, {info.runtime}, {info.device}"


def _retrieval_facts(found: RetrievalAgreement | None) -> list[tuple[str, str]]:
    if found is None:
        return []
    shares = ", ".join(f"{100 * share:.2f} % @{k}" for k, share in found.overlap_at.items())
    flips = f"{found.flips} of {found.queries:,} ({100 * found.flip_share:.2f} %)"
    if found.flips:
        flips += f", at worst {100 * found.worst_regret:.2g} % farther"
    rows = [("same neighbours", shares), ("top-1 flips", flips)]
    if found.reference is None or found.candidate is None or math.isnan(found.recall_change):
        return rows
    changes = (
        ("R@1", found.reference.recall_at[1], found.recall_change),
        ("MAP@R", found.reference.map_at_r, found.map_change),
    )
    return [
        *rows,
        *(
            (name, f"{100 * before:.2f} -> {100 * (before + change):.2f} % ({100 * change:+.2f})")
            for name, before, change in changes
        ),
    ]


def _show_errors(report: ParityReport) -> None:
    figures = report.figures
    rows = [_error_row("1 - cosine", figures.cosine, report.ids)]
    for errors in figures.outputs:
        rows.append(_error_row(f"{errors.name}, absolute", errors.absolute, report.ids))
        rows.append(_error_row(f"{errors.name}, relative", errors.relative, report.ids))
    if figures.weights is not None:
        weights = figures.weights
        rows.append(_error_row("weights / spread", weights.relative, report.ids))
        rows.append(_error_row("marginal, reference", weights.reference_marginal, report.ids))
        rows.append(_error_row("marginal, candidate", weights.candidate_marginal, report.ids))
    for name, certified in figures.certificates.items():
        short = name.removeprefix("embedding_")
        rows.append(_error_row(f"{short}, candidate", certified, report.ids))
    show.table("errors by image", ["", "worst", "99 %", "median", "worst image"], rows)


def _error_row(name: str, errors: Distribution, ids: tuple[str, ...]) -> list[str]:
    figures = (errors.maximum, errors.tail, errors.median)
    worst = _ending(ids[errors.worst_image], NAME_WIDTH)
    return [name, *(f"{value:.1e}" for value in figures), worst]


def show_gates(gates: tuple[Gate, ...]) -> None:
    """Print each gate with its figure, its limit and its verdict."""
    rows = [
        [
            gate.title,
            figure(gate.value),
            f"{'>=' if gate.is_minimum else '<='} {figure(gate.limit)}",
            Text("ok", "green") if gate.passed else Text("FAILED", ALARMING),
        ]
        for gate in gates
    ]
    passed = sum(gate.passed for gate in gates)
    show.table(f"gates: {passed} of {len(gates)} hold", ["", "found", "limit", "verdict"], rows)


def show_layers(report: LayerReport) -> None:
    """Print the errors along the graph, the first divergent node marked, and where they grow."""
    names = _in_columns("node", "operator", "module")
    rows = [_node_row(node, report.first) for node in _shown(report)]
    images, limit = counted(report.images, "image"), figure(report.threshold)
    title = f"error along the graph, {images}, limit {limit}"
    show.table(title, [names, "error"], rows)
    grown = [node for node in report.largest_growth() if node.growth > 0]
    if grown:
        rows = [[_names(node), f"{node.growth:.1e}"] for node in grown]
        show.table("where it grows most", [names, "growth"], rows)
    if report.first is None:
        show.out.print(f"none of {counted(len(report.nodes), 'node')} is beyond the limit")


def _node_row(node: NodeError | None, first: NodeError | None) -> Sequence[str | Text]:
    if node is None:
        return ["...", ""]
    name, error = _names(node), f"{node.error:.1e}"
    if node != first:
        return [name, error]
    return [Text(cell, ALARMING) for cell in (name, f"> {error}")]


def _names(node: NodeError) -> str:
    return _in_columns(node.node, node.op, node.module)


def _in_columns(node: str, operator: str, module: str) -> str:
    """Set names side by side in one cell, because the other columns hold figures."""
    widths = (NODE_WIDTH, OPERATOR_WIDTH, MODULE_WIDTH)
    cells = zip((node, operator, module), widths, strict=True)
    return " ".join(_ending(name, width).ljust(width) for name, width in cells)


def _shown(report: LayerReport) -> list[NodeError | None]:
    """Return the nodes to print, None for a gap: milestones, the end, and around the first."""
    nodes = report.nodes
    if len(nodes) <= WHOLE_GRAPH:
        return list(nodes)
    chosen = {i * (len(nodes) - 1) // (MILESTONES - 1) for i in range(MILESTONES)}
    if report.first is not None:
        place = nodes.index(report.first)
        chosen |= set(range(max(0, place - AROUND), min(len(nodes), place + AROUND + 1)))
    shown: list[NodeError | None] = []
    for place in sorted(chosen):
        if shown and place - 1 not in chosen:
            shown.append(None)
        shown.append(nodes[place])
    return shown


def _ending(name: str, width: int) -> str:
    """Cut the beginning of a name that is too long."""
    return name if len(name) <= width else f"…{name[-(width - 1) :]}"
