"""What is read from the system."""

from __future__ import annotations

from pathlib import Path

import pytest

from gsp_deploy.base import environment

CPU = "processor\t: 0\nmodel name\t: A CPU\nvmx flags\t: avx_vnni\nflags\t\t: fpu {} sse2\n"


@pytest.mark.parametrize(
    ("flag", "expected"),
    [("avx512_vnni", True), ("avx_vnni", True), ("avx512_vnni2", False), ("", False)],
)
def test_int8_instructions_are_read_from_the_system(
    flag: str, expected: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Path, "read_text", lambda *_, **__: CPU.format(flag))
    assert environment.has_vnni() is expected


def test_a_system_that_does_not_say_has_no_vnni(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(*_: object, **__: object) -> str:
        raise FileNotFoundError

    monkeypatch.setattr(Path, "read_text", missing)
    assert not environment.has_vnni()
