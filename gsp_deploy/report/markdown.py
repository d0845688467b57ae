"""Write the report as Markdown, for a pull request or a CI log: every section with its tables."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from gsp_deploy.base.origin import MARK
from gsp_deploy.report.content import Section, Table
from gsp_deploy.report.documents import Documents
from gsp_deploy.report.page import verdict
from gsp_deploy.report.pictures import Pictures
from gsp_deploy.report.sections import all_sections


def markdown_page(title: str, documents: Documents, pictures: Pictures | None = None) -> str:
    """Return the report as GitHub Markdown, with tables instead of charts and pictures."""
    parts = [f"# {_escaped(title)}", f"<!-- {MARK} -->"]
    if outcome := verdict(documents):
        parts.append(f"**{_escaped(outcome)}**")
    for section in all_sections(documents, pictures):
        parts += _section(section)
    return "\n\n".join(parts) + "\n"


def _section(section: Section) -> Iterator[str]:
    yield f"## {_escaped(section.title)}"
    if section.text:
        yield _escaped(section.text)
    for table in section.tables:
        if table.caption:
            yield f"### {_escaped(table.caption)}"
        yield _table(table)
        if table.note:
            yield _escaped(table.note)


def _table(table: Table) -> str:
    sides = ("--:" if index in table.numeric else "---" for index in range(len(table.columns)))
    return "\n".join([_line(table.columns), f"|{'|'.join(sides)}|", *map(_line, table.rows)])


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(_escaped(cell) for cell in cells) + " |"


def _escaped(text: str) -> str:
    for mark in "\\|<>*_`[]":
        text = text.replace(mark, f"\\{mark}")
    return text.replace("\n", " ")
