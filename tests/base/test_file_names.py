"""Names of any bytes as valid Unicode, and back."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gsp_deploy.base.file_names import as_text, from_text, is_valid, names_as_text
from gsp_deploy.base.files import write_text

NAMES = st.binary(min_size=1).map(os.fsdecode)


@given(NAMES)
@example("bytes:caf%E9.png")
@example(os.fsdecode(b"bytes:\xe9"))
def test_a_name_comes_back(name: str) -> None:
    text = as_text(name)
    text.encode()
    assert from_text(text) == name


@given(st.lists(NAMES, unique=True))
def test_no_two_names_become_one(names: list[str]) -> None:
    assert len({as_text(name) for name in names}) == len(names)


@pytest.mark.parametrize("name", ["ok.png", "ü.png", "a/b c%20.png", "back\\xe9.png", ""])
def test_a_name_in_utf_8_stays_as_it_is(name: str) -> None:
    assert as_text(name) == name


def test_only_texts_change() -> None:
    bad = os.fsdecode(b"\xff")
    found = names_as_text({bad: [bad, 1, None, True, 0.5, {"k": (bad,)}]})
    assert found == {"bytes:%FF": ["bytes:%FF", 1, None, True, 0.5, {"k": ["bytes:%FF"]}]}
    assert not is_valid(bad)


def test_a_page_with_such_a_name_is_valid_utf_8(tmp_path: Path) -> None:
    write_text(tmp_path / "page.html", "caf" + os.fsdecode(b"\xe9"))
    assert (tmp_path / "page.html").read_text(encoding="utf-8") == "caf\\udce9"
