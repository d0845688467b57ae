"""The section on the machine and the versions behind the measurements, checks and artifacts."""

from __future__ import annotations

from collections.abc import Iterable

from gsp_deploy.base.words import counted
from gsp_deploy.benchmark import BenchmarkReport
from gsp_deploy.report.content import Block, Section, Table
from gsp_deploy.report.documents import Documents, NamedArtifact
from gsp_deploy.report.figures import DASH

_TEXT = "The figures above hold for this machine and these versions. Another machine gives others."


def environment(documents: Documents) -> Section | None:
    """Describe the machine, versions and conditions; None if no document contains them."""
    blocks: list[Block] = [_conditions(report) for report in documents.benchmarks]
    if checked := _checked(documents):
        blocks.append(checked)
    if made := _origins(documents.artifacts):
        blocks.append(made)
    return Section("Environment", _TEXT, tuple(blocks)) if blocks else None


def _conditions(report: BenchmarkReport) -> Table:
    machine, settings = report.environment, report.settings
    load = "unknown" if report.load_average is None else f"{report.load_average:.1f}"
    rounds = counted(settings.repeats, "round")
    length = rounds if settings.seconds is None else f"{settings.seconds:g} s"
    rows = [
        ("processor", f"{machine.processor}, {counted(machine.cores, 'core')}, load {load} before"),
        ("system", f"{machine.system}, Python {machine.python}"),
        ("packages", _versions(machine.packages.items())),
        ("runtime", ", ".join(dict.fromkeys(f"{m.runtime}, {m.device}" for m in report.models))),
        ("threads", str(settings.threads or "the runtime's choice")),
        ("length", f"{length} a batch size, after {settings.warmup} to warm up"),
        *((name, text) for name, _, text in (line.partition(": ") for line in report.included)),
    ]
    return Table("The benchmark", ("condition", "value"), tuple(rows))


def _checked(documents: Documents) -> Table | None:
    """Show the runtimes and devices of the checks."""
    found = dict.fromkeys((check.runtime, check.device) for check in documents.checks)
    if not found:
        return None
    return Table("The checks", ("runtime", "device"), tuple(found))


def _origins(artifacts: Iterable[NamedArtifact]) -> Table | None:
    """Show the source, data set, licence and package versions of each artifact."""
    exports = [(a.name, a.export) for a in artifacts if a.export is not None]
    rows = tuple(
        (
            name,
            DASH if export.source_sha256 is None else export.source_sha256[:12],
            str(export.provenance.get("dataset") or DASH),
            str(export.provenance.get("license") or DASH),
            f"opset {export.opset}; {_versions(export.versions.items())}",
        )
        for name, export in exports
    )
    columns = ("artifact", "checkpoint", "trained on", "licence", "made with")
    return Table("The artifacts", columns, rows, folded=True) if rows else None


def _versions(packages: Iterable[tuple[str, str]]) -> str:
    return ", ".join(f"{name} {version}" for name, version in packages)
