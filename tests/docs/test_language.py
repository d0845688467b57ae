"""The pages use plain English: some habits that slow a reader down are named, and refused."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = sorted(
    [
        *(ROOT / name for name in ("README.md", "SECURITY.md", "CODE_OF_CONDUCT.md")),
        *(ROOT / "docs").rglob("*.md"),
        *(ROOT / "models").glob("*.md"),
    ]
)
# "tell" for say, report or raise; and words that stand in for a subject.
HABITS = re.compile(
    r"\b(tells?|telling|told|of ours|whatever|what came|anew|amid|thereof|wherein)\b", re.IGNORECASE
)
CODE = re.compile(r"```.*?```|`[^`\n]*`", re.DOTALL)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_a_page_avoids_words_that_slow_a_reader_down(page: Path) -> None:
    text = CODE.sub("", page.read_text(encoding="utf-8"))
    found = [match.group() for match in HABITS.finditer(text)]
    assert found == []


def test_the_habits_are_recognised() -> None:
    assert HABITS.findall("It tells what came, whatever lies here.") == [
        "tells",
        "what came",
        "whatever",
    ]
