"""Groups of options: a dataclass in a command's signature, options of their own outside."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import pytest
import typer
from typer.testing import CliRunner

from gsp_deploy_cli.main import COMMANDS, app
from gsp_deploy_cli.options.common import Force
from gsp_deploy_cli.options.groups import panel, unfolded

ENGINE_OPTIONS = {
    "--cuda-api",
    "--cuda-graphs",
    "--plugin",
    "--allow-host-code",
    "--device",
    "--provider",
    "--ep-library",
    "--session-option",
    "--threads",
}
size_option = panel("Size")


@dataclass(frozen=True)
class Base:
    height: Annotated[int, size_option(min=1, help="In pixels.")] = 224


@dataclass(frozen=True)
class Size(Base):
    also: Annotated[list[str] | None, typer.Option("--also", "-a")] = None


@dataclass(frozen=True)
class Colour:
    grey: Annotated[bool, typer.Option("--grey/--no-grey")] = True
    name: Annotated[str | None, typer.Option()] = None


given: list[tuple[object, ...]] = []


def crop(
    image: Path,
    *,
    output: Annotated[Path, typer.Option("--output", "-o")],
    size: Size,
    colour: Colour,
    force: Force = False,
) -> None:
    """Crop an image."""
    given.append((image, output, size, colour, force))


@pytest.fixture
def run():
    """Return a function that runs `crop` and returns what its body was handed."""
    cropping = typer.Typer()
    cropping.command()(unfolded(crop))

    def run(line: str) -> tuple[object, ...]:
        given.clear()
        ran = CliRunner().invoke(cropping, line.split())
        assert ran.exit_code == 0, ran.output
        return given.pop()

    return run


@pytest.mark.parametrize(
    ("line", "size", "colour"),
    [
        ("a.png -o b.png", Size(), Colour()),
        ("a.png -o b.png --height 7 --no-grey", Size(7), Colour(grey=False)),
        ("--name red -a x a.png --also y -o b.png", Size(224, ["x", "y"]), Colour(name="red")),
    ],
)
def test_the_body_is_handed_the_groups(run, line: str, size: Size, colour: Colour) -> None:
    assert run(line) == (Path("a.png"), Path("b.png"), size, colour, False)


def test_options_stand_where_their_group_stood() -> None:
    names = list(unfolded(crop).__annotations__)
    assert names == ["image", "output", "height", "also", "grey", "name", "force"]
    assert unfolded(crop).__doc__ == crop.__doc__


def test_a_group_keeps_bounds_help_and_panel() -> None:
    cropping = typer.Typer()
    cropping.command()(unfolded(crop))
    shown = CliRunner().invoke(cropping, ["--help"]).output
    assert "─ Size ─" in shown
    assert "In pixels." in shown
    refused = CliRunner().invoke(cropping, ["a.png", "-o", "b.png", "--height", "0"])
    assert refused.exit_code == 2


def options_of(name: str) -> set[str]:
    command = typer.main.get_command(app).commands[name]
    return {option for parameter in command.params for option in parameter.opts}


@pytest.mark.parametrize(
    "name",
    [
        "bench",
        "check",
        "embed",
        "evaluate",
        "explain",
        "index",
        "index-add",
        "migrate-check",
        "search",
        "serve",
    ],
)
def test_commands_that_open_a_session_take_the_same_options(name: str) -> None:
    assert options_of(name) >= ENGINE_OPTIONS


@pytest.mark.parametrize(
    "command", COMMANDS, ids=lambda command: command.__name__.replace("_", "-")
)
def test_a_shell_completes_the_options_of_a_group(command, monkeypatch) -> None:
    """Every option that help lists is one that completion offers."""
    name = command.__name__.replace("_", "-")
    monkeypatch.setenv("_GSP_DEPLOY_COMPLETE", "complete_bash")
    monkeypatch.setenv("COMP_WORDS", f"gsp-deploy {name} --")
    monkeypatch.setenv("COMP_CWORD", "2")
    offered = CliRunner().invoke(app, [], prog_name="gsp-deploy").output.split()
    assert {o for o in options_of(name) if o.startswith("--")} <= {*offered, "--help"}


@pytest.mark.parametrize(
    "command", COMMANDS, ids=lambda command: command.__name__.replace("_", "-")
)
def test_every_option_says_what_it_is(command) -> None:
    parameters = typer.main.get_command(app).commands[command.__name__.replace("_", "-")].params
    assert [parameter.name for parameter in parameters if not parameter.help] == []
