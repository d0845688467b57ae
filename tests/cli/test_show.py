"""What is printed is what was given: brackets in the names of files are no markup."""

from __future__ import annotations

import io

import pytest
from rich.console import Console
from rich.text import Text

from gsp_deploy_cli.tables import show

NAMES = ("run[final].onnx", "a[/red].onnx", "[bold]b.onnx", "c[0].onnx")


@pytest.mark.parametrize("name", NAMES)
def test_brackets_in_names_are_printed_as_they_are(name: str, capsys) -> None:
    show.table(f"Layers of {name}", [name, "ms"], [[name, "1"], [Text(name, "red"), "2"]])
    show.facts(f"Run of {name}", [("model", name)])
    show.note(name)
    told = capsys.readouterr()
    assert (told.out.count(name), told.err) == (6, f"{name}\n")


@pytest.mark.parametrize("name", NAMES)
def test_brackets_are_kept_while_something_is_going_on(name: str, monkeypatch) -> None:
    screen = io.StringIO()
    terminal = Console(file=screen, force_terminal=True, markup=False, width=80)
    monkeypatch.setattr(show, "err", terminal)
    with show.status(f"exporting {name}"):
        pass
    with show.progress(f"embedding {name}", 3) as bar:
        bar.refresh()
    assert f"exporting {name}" in screen.getvalue()
    assert f"embedding {name}" in screen.getvalue()
