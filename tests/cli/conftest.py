"""Running the command line in this process, which costs no start."""

from __future__ import annotations

import sys

import pytest

from gsp_deploy_cli import main as frame

Outcome = tuple[int, str, str]


@pytest.fixture
def run_here(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    """Return a function that runs a command: exit code, stdout, stderr."""

    def run(*arguments: object) -> Outcome:
        monkeypatch.setattr(sys, "argv", ["gsp-deploy", *map(str, arguments)])
        code: object = 0
        try:
            frame.main()
        except SystemExit as ended:
            code = ended.code
        captured = capsys.readouterr()
        return (code if isinstance(code, int) else 0), captured.out, captured.err

    return run
