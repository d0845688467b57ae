"""The report's Markdown twin: its tables, for a pull request or a CI log."""

from __future__ import annotations

from gsp_deploy.report import tables
from gsp_deploy.report.documents import Documents
from gsp_deploy.report.tables import Table


def markdown_page(title: str, documents: Documents) -> str:
    """Return the report's tables as GitHub-flavoured Markdown."""
    failed = [check.name for check in documents.checks if not check.passed]
    parts = [f"# {_escaped(title)}"]
    if documents.checks:
        verdict = f"parity gates failed: {', '.join(failed)}" if failed else "every gate passed"
        parts.append(f"**{_escaped(verdict)}**")
    if documents.artifacts:
        parts.append(_markdown(tables.artifacts_table(documents.artifacts)))
    if documents.checks:
        parts.append(_markdown(tables.parity_table(documents.checks)))
    for report in documents.benchmarks:
        parts += [_markdown(tables.latency_table(report)), _facts(tables.conditions_table(report))]
    parts += [_markdown(tables.retrieval_table(found)) for found in documents.evaluations]
    return "\n\n".join(parts) + "\n"


def _markdown(table: Table) -> str:
    lines = [f"## {_escaped(table.caption)}", "", _line(table.columns)]
    sides = ("--:" if index in table.numeric else "---" for index in range(len(table.columns)))
    lines.append("|" + "|".join(sides) + "|")
    return "\n".join([*lines, *(_line(row) for row in table.rows)])


def _facts(table: Table) -> str:
    return "\n".join(f"- {_escaped(name)}: {_escaped(value)}" for name, value in table.rows)


def _line(cells: tuple[str, ...]) -> str:
    return "| " + " | ".join(_escaped(cell) for cell in cells) + " |"


def _escaped(text: str) -> str:
    for mark in "\\|<>*_`[]":
        text = text.replace(mark, f"\\{mark}")
    return text.replace("\n", " ")
