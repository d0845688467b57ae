"""Troubleshooting is keyed by words that the tool really says."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "troubleshooting.md").read_text(encoding="utf-8")
KEYS = re.findall(r"^`(.+)`$", PAGE, re.MULTILINE)


@cache
def messages() -> str:
    """Return the literal parts of every string in the package, a line each."""
    found = []
    for file in [*ROOT.glob("gsp_deploy/**/*.py"), *ROOT.glob("cli/*.py")]:
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.JoinedStr):
                parts = (p.value for p in node.values if isinstance(p, ast.Constant))
                found.append("{}".join(map(str, parts)))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.append(node.value)
    return "\n".join(found)


def test_the_page_has_keys() -> None:
    assert len(KEYS) > 10


@pytest.mark.parametrize("key", KEYS)
def test_every_key_is_said_somewhere(key: str) -> None:
    assert key in messages()
