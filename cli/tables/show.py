"""Print a command's output: results to stdout, everything else to stderr."""

from __future__ import annotations

import json
import os
import sys
import textwrap
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Literal

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from rich.text import Text

from gsp_deploy.base.file_names import as_text, names_as_text
from gsp_deploy.base.words import counted

WIDTH = 80
SHOWN_SKIPPED = 10

# With NO_COLOR no escape codes at all, which includes bold and dim.
COLOURS: Literal["auto"] | None = None if os.environ.get("NO_COLOR") else "auto"
if COLOURS is None:  # also for help and usage errors, which Typer prints
    from typer import rich_utils

    rich_utils.COLOR_SYSTEM = None

# No markup: file names may contain brackets.
out = Console(
    width=None if sys.stdout.isatty() else WIDTH,
    color_system=COLOURS,
    highlight=False,
    emoji=False,  # `a:b:` in a path is no picture
    markup=False,
)
err = Console(stderr=True, color_system=COLOURS, highlight=False, markup=False, emoji=False)


def document(kind: str, data: Mapping[str, Any], version: int = 1) -> None:
    """Print one JSON document on stdout: `{"document": kind, "version": 1, ...}`.

    `gsp_deploy.base.file_names.as_text` says how names that are not UTF-8 are written.
    """
    content = names_as_text({"document": kind, "version": version, **data})
    text = json.dumps(content, indent=2, default=lambda value: as_text(str(value)))
    print(text, flush=True)  # a server's document is read while the server runs


def table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str | Text]]) -> None:
    """Print a table; columns after the first are right-aligned, as they hold figures."""
    grid = Table(title=title, title_justify="left", title_style="bold", header_style="dim")
    for index, column in enumerate(columns):
        grid.add_column(column, justify="right" if index else "left", overflow="fold")
    for row in rows:
        grid.add_row(*row)
    _print(grid)


def note(message: str) -> None:
    """Print a line beside the result, on stderr."""
    err.print(message, soft_wrap=True)


def remark(message: str) -> None:
    """Print something that the user should know about the result."""
    note(f"note: {message}")


def warning(message: str) -> None:
    """Print something that may make the result useless."""
    note(f"warning: {message}")


@contextmanager
def progress(what: str, total: int | None) -> Iterator[Progress]:
    """Yield a progress bar on stderr that leaves no trace in a log."""
    with _bar(MofNCompleteColumn(), TimeRemainingColumn()) as bar:
        bar.add_task(what, total=total)
        yield bar


@contextmanager
def counting(what: str, total: int | None) -> Iterator[Callable[..., None]]:
    """Yield a function that advances a progress bar by one, or by the number it gets."""
    with progress(what, total) as bar:
        yield lambda count=1: bar.advance(bar.task_ids[0], count)


@contextmanager
def share(what: str) -> Iterator[Progress]:
    """Yield a progress bar on stderr that goes from 0 to 1; it leaves no trace in a log."""
    with _bar(TaskProgressColumn(), TimeElapsedColumn()) as bar:
        bar.add_task(what, total=1.0)
        yield bar


def _bar(*figures: ProgressColumn) -> Progress:
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), *figures)
    return Progress(*columns, console=err, transient=True, disable=not err.is_terminal)


def skipped(reasons: Sequence[str]) -> None:
    """Print how many images were skipped, and the first of them with the reason."""
    if not reasons:
        return
    note(f"skipped {counted(len(reasons), 'image')} that cannot be read:")
    for reason in reasons[:SHOWN_SKIPPED]:
        note(f"  {reason}")
    if len(reasons) > SHOWN_SKIPPED:
        note(f"  {more(len(reasons) - SHOWN_SKIPPED)}")


def more(count: int) -> str:
    """Return the line for the items that a list leaves out."""
    return f"and {count:,} more (--json lists all)"


def facts(title: str, rows: Sequence[tuple[str, str]]) -> None:
    """Print named facts, one per line."""
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="dim", no_wrap=True)
    grid.add_column(overflow="fold")
    for name, value in rows:
        grid.add_row(name, Text(value))
    for line in title.splitlines():
        # Broken between words: a long path stays whole, to be copied.
        whole = textwrap.fill(line, out.width, break_long_words=False, break_on_hyphens=False)
        out.print(Text(whole, style="bold"), soft_wrap=True)
    _print(grid)


def _print(grid: Table) -> None:
    """Print a table without trailing blanks."""
    with out.capture() as printed:
        out.print(grid)
    for line in printed.get().splitlines():
        print(line.rstrip())


def elided(text: str, width: int) -> str:
    """Return text in at most `width` columns; a long text loses its middle."""
    if len(text) <= width:
        return text
    head = (width - 1) // 2
    return f"{text[:head]}…{text[head + 1 - width :]}"


@contextmanager
def status(what: str) -> Iterator[None]:
    """Show a spinner on a terminal; print the text once in a log."""
    if err.is_terminal:
        with err.status(Text(what)):
            yield
    else:
        note(what)
        yield
