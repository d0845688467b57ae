"""Troubleshooting is keyed by words that the tool really says, and has a cure for each."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "troubleshooting.md").read_text(encoding="utf-8")
KEYS = re.findall(r"^`(.+)`$", PAGE, re.MULTILINE)
CURES = re.findall(r"^`(.+)`\n:   \S", PAGE, re.MULTILINE)
DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef)


def strings(node: ast.AST) -> Iterator[str]:
    """Yield the strings below a node that are not docstrings, `{}` for what is filled in."""
    if isinstance(node, ast.JoinedStr):
        yield "".join(p.value if isinstance(p, ast.Constant) else "{}" for p in node.values)
    elif isinstance(node, ast.Constant) and isinstance(node.value, str):
        yield node.value
    children = list(ast.iter_child_nodes(node))
    if isinstance(node, DOCUMENTED) and ast.get_docstring(node) is not None:
        children.remove(node.body[0])
    for child in children:
        yield from strings(child)


@cache
def messages() -> str:
    """Return what the package can say, a string a line."""
    files = [*ROOT.glob("gsp_deploy/**/*.py"), *ROOT.glob("cli/**/*.py")]
    return "\n".join(
        string for file in files for string in strings(ast.parse(file.read_text(encoding="utf-8")))
    )


def test_the_page_has_many_keys_each_once() -> None:
    assert len(KEYS) >= 30
    assert len(set(KEYS)) == len(KEYS)


def test_every_key_has_a_cure() -> None:
    assert CURES == KEYS


@pytest.mark.parametrize("key", KEYS)
def test_every_key_is_said_somewhere(key: str) -> None:
    assert key in messages()


def test_words_of_a_docstring_are_not_said() -> None:
    tree = ast.parse('def f(x):\n    """Not said."""\n    raise ValueError(f"said of {x}: so")\n')
    said = list(strings(tree))
    assert "said of {}: so" in said
    assert "Not said." not in said
