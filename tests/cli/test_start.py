"""What starting the command line and importing the runtime costs: no heavy package comes along."""

from __future__ import annotations

import subprocess
import sys

import pytest

from gsp_deploy_cli.main import COMMANDS

HEAVY = ("torch", "timm", "onnx", "onnxruntime", "matplotlib", "faiss", "pydantic")


@pytest.mark.parametrize(
    ("module", "forbidden"),
    [
        ("gsp_deploy_cli.main", (*HEAVY, "numpy")),
        ("gsp_deploy.runtime", (*HEAVY, "PIL")),
        ("gsp_deploy", (*HEAVY, "numpy")),
    ],
)
def test_nothing_heavy_is_imported(module: str, forbidden: tuple[str, ...]) -> None:
    script = f"import sys, {module}; print(*(n for n in {forbidden!r} if n in sys.modules))"
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert ran.stdout.split() == []


def test_an_onnx_model_opens_where_torch_is_absent(tiny_export: str) -> None:
    script = (
        "import sys; sys.modules['torch'] = None\n"
        "import numpy as np\n"
        "from gsp_deploy import open_session\n"
        f"with open_session({tiny_export!r}) as session:\n"
        "    print(session.embed(np.zeros((2, 32, 32, 3), np.uint8)).shape)"
    )
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "(2, 8)"


def test_help_names_every_command() -> None:
    command = [sys.executable, "-m", "gsp_deploy_cli.main", "--help"]
    shown = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    for command in COMMANDS:
        assert f" {command.__name__.replace('_', '-')} " in shown
