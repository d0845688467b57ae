"""What is tried on the commands: the arguments, and the exit code and words that are right."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path

from .workshop import Ran, contents, failing_writes, run_here

GATE_FAILED = 3  # the report of a check is printed also where it fails


@dataclass(frozen=True)
class Attempt:
    """One command on bad input.

    Attributes:
        what: what is wrong, in words.
        command: arguments; those that begin with `@` lie in the workshop, with `>` in an empty
            folder for outputs.
        code: the exit code that is right.
        said: what the one line must hold; for code 0 nothing need be said.
        made: the files that may appear in the folder for outputs.
        there: a file that is in that folder before.
        holds: what is in it; empty, so that there is nothing to lose, or somebody's own.
        failing: number of the system's error that every flush to the disk meets.
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
    """Return an attempt a command, each with its exit code and the words that are right."""
    return tuple(Attempt(what, command, *right) for command, right in commands.items())


def crossed(
    what: str, commands: Iterable[str], bad: Mapping[str, tuple[int, str]]
) -> tuple[Attempt, ...]:
    """Return an attempt a command and a bad thing, which takes the place of `?` in the command."""
    return tuple(
        Attempt(what, command.replace("?", thing), *right)
        for thing, right in bad.items()
        for command in commands
    )


@dataclass(frozen=True)
class Outcome:
    """What came of an attempt; `faults` is empty where all was as it should be."""

    ran: Ran
    faults: tuple[str, ...]


def attempt(tried: Attempt, workshop: Path, output: Path) -> Outcome:
    """Run a command on bad input, and hold what it said and left behind against the promise."""
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
        f"exit code {ran.code}, right is {tried.code}": ran.code != tried.code,
        "a traceback": "Traceback" in ran.err,
        "a warning of a library": "Warning" in ran.err,
        "not one line of error": tried.code != 0 and _error_lines(ran) != 1,
        f"it does not say {tried.said!r}": tried.said not in ran.err.replace("\n", " "),
        "something on stdout": tried.code not in (0, GATE_FAILED) and ran.out != "",
        f"it left {sorted(left)}": not left.keys() <= tried.made,
        "what was there is gone": not expected.get("there", True),
        "the inputs changed": contents(workshop) != before,
    }
    return Outcome(ran, tuple(fault for fault, is_so in faults.items() if is_so))


def _error_lines(ran: Ran) -> int:
    """Count lines that tell of an error; Typer's box about an option counts as one."""
    return sum(line.startswith(("error: ", "╭─ Error")) for line in ran.err.splitlines())


def _place(word: str, workshop: Path, output: Path) -> str:
    if word.startswith("@"):
        return str(workshop / word[1:])
    return str(output / word[1:]) if word.startswith(">") else word
