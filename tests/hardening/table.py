"""The table of what was tried and what came, as the tests saw it."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

TITLE = """# What was tried, and what came

Written by `make tried` from what the tests of this folder saw; do not edit. Of a command, `@` is a
folder of sound and damaged things, `>` an empty folder for outputs. Every line was held against
its exit code, one line of error, no traceback, no partial file, and inputs as they were.

Of damaged files, `opens` means that nothing that was read is different; `opens, other result` that
a flipped bit came through: an ONNX file has no checksum of its own. The SHA-256 in the manifest
beside it tells, and was left out here; checkpoints carry theirs inside.

Of signals, 130 is a command that Ctrl-C ended and 0 one that had ended before it came; `signal 9`
and `signal 0` are the same of SIGKILL. SIGKILL also came before each system call that changes an
output, found by Python's audit events. It leaves each file whole, old or new. Of files that belong
together (a model and its manifest, embeddings and their ids) it leaves those of one run, or takes
the main one away: the next run or reader puts it in its place. A crash of the machine was not
tried.
"""


class Row(NamedTuple):
    """One line of the table, under the heading of its kind."""

    kind: str
    tried: str
    came: str


def write_table(rows: Sequence[Row], path: Path, workshop: Path) -> None:
    """Write Markdown, one section a kind, with the places of this machine's files taken out."""
    sections = [TITLE]
    ordered = sorted(rows, key=lambda row: row.kind)
    for kind, group in itertools.groupby(ordered, key=lambda row: row.kind):
        lines = [f"| {tried} | {came} |" for came, tried in _by_outcome(group).items()]
        sections.append("\n".join([f"## {kind}\n", "| tried | came |", "|---|---|", *lines, ""]))
    text = "\n".join(sections).replace(str(workshop), "@")
    text = re.sub(r"/tmp/pytest-[^ :|`]*?/test_[^/ :|`]*", ">", text)
    path.write_text(re.sub(r"\.[a-z0-9_]{8}/files", ".xxxxxxxx/files", text), encoding="utf-8")


def _by_outcome(rows: Iterable[Row]) -> dict[str, str]:
    """Return what came, and all of which it came, a line each within the cell."""
    found: dict[str, list[str]] = {}
    for row in rows:
        found.setdefault(_cell(row.came), []).append(_cell(row.tried))
    return {came: "<br>".join(tried) for came, tried in found.items()}


def _cell(text: str) -> str:
    printable = "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)
    return printable.replace("|", "\\|")
