"""Run commands on bad input, and check the exit code, the error line and the files."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path

from .workshop import Ran, contents, failing_writes, run_here

GATE_FAILED = 3  # a check prints its report even if it fails


@dataclass(frozen=True)
class Attempt:
    """One command on bad input.

    Attributes:
        what: description of the bad input; the heading in the table.
        command: arguments; those that begin with `@` are paths in the workshop, those with `>` in
            an empty folder for outputs.
        code: the expected exit code.
        said: text that the error line must contain; may be empty for code 0.
        made: files that may appear in the folder for outputs.
        there: a file that is in that folder beforehand.
        holds: contents of that file; an empty one may be replaced, the user's own may not.
        failing: number of the system error that every flush to the disk raises.
    """

    what: str
    command: str
    code: int
    said: str = ""
    made: frozenset[str] = frozenset()
    there: str | None = None
    holds: bytes = b""
    failing: int | None = None


def each(what: str, commands: Mapping[str, tuple[int, str]]) -> tuple[Attempt, ...]:
    """Return one attempt per command, with its expected exit code and words."""
    return tuple(Attempt(what, command, *right) for command, right in commands.items())


def crossed(
    what: str, commands: Iterable[str], bad: Mapping[str, tuple[int, str]]
) -> tuple[Attempt, ...]:
    """Return one attempt for each command with each bad argument in place of its `?`."""
    return tuple(
        Attempt(what, command.replace("?", thing), *right)
        for thing, right in bad.items()
        for command in commands
    )


@dataclass(frozen=True)
class Outcome:
    """The outcome of an attempt; `faults` is empty if everything was as expected."""

    ran: Ran
    faults: tuple[str, ...]


def attempt(tried: Attempt, workshop: Path, output: Path) -> Outcome:
    """Run a command on bad input, and check its output and the files that it leaves."""
    if tried.there is not None:
        (output / tried.there).parent.mkdir(parents=True, exist_ok=True)
        (output / tried.there).write_bytes(tried.holds)
    before = contents(workshop)
    disk: AbstractContextManager[None] = nullcontext()
    if tried.failing is not None:
        disk = failing_writes(tried.failing)
    with disk:
        ran = run_here(*(_place(word, workshop, output) for word in tried.command.split("|")))
    left = contents(output)
    expected = {"there": left.pop(tried.there, None) == tried.holds} if tried.there else {}
    faults = {
        f"leaked {ran.leaked}": ran.leaked is not None,
        f"exit code {ran.code}, expected {tried.code}": ran.code != tried.code,
        "a traceback": "Traceback" in ran.err,
        "a library's warning": "Warning" in ran.err,
        "not one line of error": tried.code != 0 and _error_lines(ran) != 1,
        f"stderr lacks {tried.said!r}": tried.said not in ran.err.replace("\n", " "),
        "something on stdout": tried.code not in (0, GATE_FAILED) and ran.out != "",
        f"it left {sorted(left)}": not left.keys() <= tried.made,
        "the existing file changed": not expected.get("there", True),
        "the inputs changed": contents(workshop) != before,
    }
    return Outcome(ran, tuple(fault for fault, is_so in faults.items() if is_so))


def _error_lines(ran: Ran) -> int:
    """Count error lines; Typer's box about an option counts as one."""
    return sum(line.startswith(("error: ", "╭─ Error")) for line in ran.err.splitlines())


def _place(word: str, workshop: Path, output: Path) -> str:
    if word.startswith("@"):
        return str(workshop / word[1:])
    return str(output / word[1:]) if word.startswith(">") else word
