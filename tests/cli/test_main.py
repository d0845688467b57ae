"""The frame around every command: exit codes, one line for an error, help."""

from __future__ import annotations

import errno
import os
import re
import subprocess
import sys

import pytest

import gsp_deploy
from gsp_deploy.errors import (
    CheckpointError,
    GateError,
    GspDeployError,
    MissingCapabilityError,
    UsageError,
)
from gsp_deploy_cli import main as frame

COMMANDS = (*(command.__name__.replace("_", "-") for command in frame.COMMANDS), "data")


@pytest.fixture
def failing(monkeypatch, run_here):
    """Return a function that lets the whole command line end with an error."""

    def fail(error: BaseException) -> tuple[int, str, str]:
        def app() -> None:
            raise error

        monkeypatch.setattr(frame, "app", app)
        return run_here()

    return fail


def test_version(run_here) -> None:
    assert run_here("--version") == (0, f"gsp-deploy {gsp_deploy.__version__}\n", "")


@pytest.mark.parametrize("flag", ["--help", "-h"])
def test_help_lists_the_commands(flag: str, run_here) -> None:
    code, out, err = run_here(flag)
    assert (code, err) == (0, "")
    assert all(f" {name} " in out for name in COMMANDS)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help_with_a_sentence(name: str, run_here) -> None:
    code, out, _ = run_here(name, "--help")
    assert code == 0
    usage, told, *_ = re.split(r"\n\s*\n", out.partition("╭")[0].strip())
    assert f"gsp-deploy {name} [OPTIONS]" in usage
    assert told.strip().endswith(".")


@pytest.mark.parametrize("arguments", [("bake",), ("--colour",), ("export",), ("embed", "--x")])
def test_usage_errors_end_with_2_on_stderr(arguments: tuple[str, ...], run_here) -> None:
    code, out, err = run_here(*arguments)
    assert (code, out) == (2, "")
    assert "Traceback" not in err
    assert "Usage" in err


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (GspDeployError("a"), 1),
        (CheckpointError("a"), 1),
        (UsageError("a"), 2),
        (GateError("a"), 3),
        (MissingCapabilityError("a"), 4),
    ],
)
def test_each_kind_of_error_has_its_exit_code(error: GspDeployError, code: int, failing) -> None:
    assert failing(error) == (code, "", "error: a\n")


def test_messages_are_shown_as_they_are(failing) -> None:
    """No markup, no wrapping: paths in brackets and long lines can be copied."""
    message = "/data/[bold]x[/bold]/model.onnx: " + "word " * 40 + "end"
    assert failing(UsageError(message)) == (2, "", f"error: {message}\n")


def test_a_package_that_is_missing_is_named(failing) -> None:
    code, _, err = failing(ModuleNotFoundError("No module named 'timm'", name="timm"))
    assert code == 4
    assert "'timm'" in err
    assert "pip install" in err


def test_what_the_system_refuses_is_told_in_a_line(failing) -> None:
    error = OSError(errno.EACCES, "Permission denied", "/data/secret.toml")
    assert failing(error) == (1, "", "error: /data/secret.toml: Permission denied\n")


def test_a_connection_that_breaks_is_said(failing, capsys) -> None:
    code, out, err = failing(BrokenPipeError())
    assert (code, out, err.count("\n")) == (1, "", 1)
    assert err.startswith("error: a connection ended")
    assert not sys.stderr.closed


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_nothing_is_said_when_the_reader_is_gone(stream: str) -> None:
    """As in `gsp-deploy data list | head -n 0`."""
    ours, theirs = os.pipe()
    os.close(ours)
    command = {
        "stdout": (sys.executable, "-m", "gsp_deploy_cli.main", "data", "list"),
        "stderr": (sys.executable, "-m", "gsp_deploy_cli.main", "inspect", "none.onnx"),
    }[stream]
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, stream: theirs}
    ran = subprocess.run(command, **streams, check=False)  # type: ignore[call-overload]
    os.close(theirs)
    assert (ran.returncode, ran.stdout or b"", ran.stderr or b"") == (1, b"", b"")


def test_an_interrupt_ends_with_130(failing) -> None:
    code, out, err = failing(KeyboardInterrupt())
    assert (code, out) == (130, "")
    assert err.startswith("error: interrupted")


def test_our_own_mistakes_keep_their_traceback(monkeypatch) -> None:
    def app() -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(frame, "app", app)
    with pytest.raises(ZeroDivisionError):
        frame.main()
