"""Write the table of bad inputs and their outcomes, from the results of these tests."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

TITLE = """# Bad input, damaged files and signals: what was tried, and the outcome

`make tried` writes this file from the results of the tests in this folder; do not edit it. In a
command, `@` is a folder of valid and damaged files and `>` an empty folder for outputs. For every
command the tests checked the exit code, that stderr has exactly one line of error and no traceback,
that no partial file remains, and that the inputs did not change.

For damaged files, `opens` means that the file was read with the right result, and `opens, other
result` that a flipped bit changed the result: an ONNX file has no checksum. The SHA-256 in the
manifest beside it would detect the change, but these tests leave the manifest out; a checkpoint
contains its own SHA-256.

For signals, 130 means that Ctrl-C ended the command, and 0 that the command had finished before the
signal; `signal 9` and `signal 0` mean the same for SIGKILL. SIGKILL was also sent before each
system call that changes an output, once where several leave the same files; Python's audit events
find these calls. Every file is then whole, either old or new. If files belong together (a model and
its manifest, embeddings and their ids), they are all from one run, or the main file is missing: the
next run or reader restores it.
A crash of the whole machine was not tried.

Tried by hand on 30 November 2026, on a busy machine with two cores:

- 3,000 altered `.mat` files: scipy's parser crashed on 73; none hung. Of 11 made by hand, one of
  1 MB took more than 1 GB in two processes; it is refused since. So are 3 of 3 such `.h5` files.
- The libFuzzer harnesses, 110 s each: 397,071 inputs, no finding.
- 3,000 requests from 8 clients, a tenth of them bad: no wrong answer; 174 and 193 MiB throughout.
- Requests made from `/openapi.json`, at most 150 for each of 8 routes: nothing undocumented. The
  time ended before the other routes.
- 900 silent clients, 300 descriptors: the server took all of them, and takes at most 248 since.
- 5 ONNX graphs that hide external data from a reader: ONNX Runtime loaded 3, which are refused
  since; it refuses the other 2 itself.
- SIGKILL before the changes of `embed` into a data set, up to a first fault: all files whole, but a
  hidden folder `._manifest.json.*` with an empty file stayed; the next run removes it since.
"""


class Row(NamedTuple):
    """One line of the table, under the heading `kind`."""

    kind: str
    tried: str
    outcome: str


def write_table(rows: Sequence[Row], path: Path, workshop: Path) -> None:
    """Write Markdown with one section per kind, without the paths of this machine."""
    sections = [TITLE]
    ordered = sorted(rows, key=lambda row: row.kind)
    for kind, group in itertools.groupby(ordered, key=lambda row: row.kind):
        lines = [f"| {tried} | {outcome} |" for outcome, tried in _by_outcome(group).items()]
        sections.append("\n".join([f"## {kind}\n", "| tried | outcome |", "|---|---|", *lines, ""]))
    text = "\n".join(sections).replace(str(workshop), "@")
    text = re.sub(r"/tmp/pytest-[^ :|`]*?/test_[^/ :|`]*", ">", text)
    path.write_text(re.sub(r"\.[a-z0-9_]{8}/files", ".xxxxxxxx/files", text), encoding="utf-8")


def _by_outcome(rows: Iterable[Row]) -> dict[str, str]:
    """Group the rows by outcome; return everything with that outcome, one per line."""
    found: dict[str, list[str]] = {}
    for row in rows:
        found.setdefault(_cell(row.outcome), []).append(_cell(row.tried))
    return {outcome: "<br>".join(tried) for outcome, tried in found.items()}


def _cell(text: str) -> str:
    printable = "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)
    return printable.replace("|", "\\|")
