"""The document of a proof: its findings as JSON, and as one page of Markdown."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from gsp_deploy.base.origin import MARK
from gsp_deploy.errors import GateError, GspDeployError

State = Literal["passed", "failed", "error", "not run"]
Table = Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class Finding:
    """What one part found.

    Attributes:
        name: what was tried.
        state: `failed` if a value is wrong, `error` if the part did not run to its end, `not run`
            if this machine lacks something for it.
        detail: one line: the main figures, or the reason.
        seconds: how long it took.
        table: rows of figures for the page; each has the same keys.
        data: everything else that was measured, for the JSON document.
    """

    name: str
    state: State
    detail: str
    seconds: float = 0.0
    table: Table = ()
    data: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Proof:
    """All findings, and the machine that they are of.

    Attributes:
        is_rehearsal: it ran on the CPU: its times say nothing about a GPU.
        date: day of the run, such as `2026-11-29`.
        machine: facts about machine, driver, clocks and packages, in words.
        findings: one for each part, in order.
    """

    is_rehearsal: bool
    date: str
    machine: Mapping[str, str]
    findings: tuple[Finding, ...]

    def check(self) -> None:
        """Raise an error for the worst finding.

        Raises:
            GateError: a value is wrong.
            GspDeployError: a part did not run to its end.
        """
        for state, error in (("failed", GateError), ("error", GspDeployError)):
            if found := [one for one in self.findings if one.state == state]:
                raise error(f"proof: {found[0].name}: {found[0].detail}")

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON-able data."""
        return dataclasses.asdict(self)

    def to_markdown(self) -> str:
        """Return one page, to be pasted into an issue or put under `docs/proof/`."""
        title = "Rehearsal on a CPU" if self.is_rehearsal else self.machine.get("name", "a GPU")
        notes = []
        if self.is_rehearsal:
            notes.append("Nothing here ran on a GPU. The times are those of a rehearsal.")
        parts = [
            f"<!-- {MARK} -->",
            f"# {title}",
            *notes,
            f"gsp-deploy {self.machine.get('gsp-deploy', '')}, {self.date}.".replace(" ,", ","),
            _table("machine", [{"what": key, "is": value} for key, value in self.machine.items()]),
            "## What was tried",
            _table("parts", [_summary(one) for one in self.findings]),
        ]
        for one in self.findings:
            if one.table:
                parts += [f"## {one.name}", _table(one.name, one.table)]
        return "\n\n".join(parts) + "\n"


def _summary(one: Finding) -> dict[str, str]:
    return {
        "part": one.name,
        "state": one.state,
        "seconds": f"{one.seconds:.0f}",
        "found": one.detail,
    }


def _table(name: str, rows: Table) -> str:
    """Return a Markdown table."""
    if not rows:
        return f"No {name}."
    columns = list(rows[0])
    lines = [_line(columns), _line(["---"] * len(columns))]
    lines += [_line([_cell(row[column]) for column in columns]) for row in rows]
    return "\n".join(lines)


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _cell(value: Any) -> str:
    text = f"{value:.4g}" if isinstance(value, float) else str(value)
    return " ".join(text.split()).replace("|", "\\|")
