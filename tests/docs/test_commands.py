"""Every command that a document shows is one that the tool has, with options that it has."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer

from gsp_deploy.export.adoption.likeness import preprocessing_like
from gsp_deploy_cli.main import app
from gsp_deploy_cli.options import inputs

ROOT = Path(__file__).parents[2]
PAGES = sorted(
    [
        *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "models/README.md")),
        *(p for folder in ("docs", "plugins", "benchmarks") for p in (ROOT / folder).rglob("*.md")),
    ]
)
# A line of its own, with a prompt or none, or a container's command; a backslash continues it.
CONTAINER = r"docker run (?!.*--entrypoint).*?"
SHOWN = re.compile(rf"^ *(?:\$ )?(?:{CONTAINER})?gsp-deploy(?::\w+)? ((?:.*\\\n)*.*)", re.MULTILINE)
NAMED = re.compile(r"`gsp-deploy ([^`]+)`")
LIKE = re.compile(r"--like (timm/[\w.]+)")
INCOMPLETE = ("MissingParameter", "BadOptionUsage", "NoArgsIsHelpError")
COMMANDS = typer.main.get_command(app)
# Options that act while they are read, as --install-completion does: those are known, not parsed.
AT_ONCE = {"-h", "--help"}.union(*(p.opts for p in COMMANDS.params if p.callback))


@pytest.fixture(autouse=True)
def _files_of_a_reader(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the pages name lies on a reader's machine, not on this one."""
    monkeypatch.setattr(inputs, "check_readable", lambda path: None)


def words_of(line: str) -> list[str]:
    """Return the arguments of the one command that a shell would run, up to a pipe or the like."""
    line = line.replace("\\\n", " ")
    lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
    lexer.commenters = "#" if " #" in line else ""
    lexer.wordchars += ":,[]{}=@%$+"
    words = []
    for word in lexer:
        if set(word) <= set("|&;<>()"):
            break
        words.append(word)
    return words


def parse(words: list[str]) -> None:
    """Read a command line as the tool does, and run nothing."""
    if words[0] in AT_ONCE:
        return
    command, context = COMMANDS, COMMANDS.make_context("gsp-deploy", list(words))
    while hasattr(command, "resolve_command"):
        name, command, rest = command.resolve_command(context, list(words))
        context = command.make_context(name, rest, parent=context)
        words = rest


def lines(pattern: re.Pattern[str]) -> Iterator[tuple[str, str]]:
    for page in PAGES:
        for match in pattern.finditer(page.read_text(encoding="utf-8")):
            yield page.relative_to(ROOT).as_posix(), match[1]


@pytest.mark.parametrize(("page", "line"), lines(SHOWN))
def test_a_shown_command_is_whole(page: str, line: str) -> None:
    parse(words_of(line))


@pytest.mark.parametrize(("page", "line"), lines(NAMED))
def test_a_named_command_exists_with_its_options(page: str, line: str) -> None:
    words = words_of(line.replace("...", "").replace("…", ""))
    try:
        parse(words)
    except Exception as error:
        # In running text `gsp-deploy embed` is the command's name, `bench --compare` an option's.
        if type(error).__name__ not in INCOMPLETE:
            raise


def test_a_network_whose_images_a_page_takes_is_one_of_timm() -> None:
    shown = {name for _, line in lines(SHOWN) for name in LIKE.findall(line)}
    assert shown
    for name in shown:
        preprocessing_like(name)


def test_pages_show_commands() -> None:
    assert len(list(lines(SHOWN))) > 30
    assert len(list(lines(NAMED))) > 5


@pytest.mark.parametrize(
    "line",
    ["embedd model.onnx photos/", "embed model.onnx photos/ -o g.npy --paralel", "check model.onnx",
     "data lst", "bench model.onnx --repeats many", "inspect a.onnx b.onnx"],
)  # fmt: skip
def test_a_wrong_command_is_noticed(line: str) -> None:
    with pytest.raises(Exception, match=r"No such|Missing|valid integer|unexpected"):
        parse(words_of(line))
