"""How many processors this process may use, on cgroups written by hand."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from gsp_deploy.base import cores
from gsp_deploy.base.cores import available_cores


@pytest.fixture(autouse=True)
def _eight(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(8)), raising=False)


@pytest.mark.parametrize(
    ("files", "group", "expected"),
    [
        ({}, None, 8),
        ({"cpu.max": "max 100000\n"}, "0::/\n", 8),
        ({"cpu.max": "150000 100000\n"}, "0::/\n", 2),
        ({"cpu.max": "20000 100000\n"}, "0::/\n", 1),
        ({"cpu.max": "9900000 100000\n"}, "0::/\n", 8),
        ({"a/cpu.max": "300000 100000\n", "a/b/cpu.max": "max 100000\n"}, "0::/a/b\n", 3),
        ({"a/cpu.max": "300000 100000\n"}, "0::/elsewhere\n", 8),
        ({"cpu/cpu.cfs_quota_us": "400000\n", "cpu/cpu.cfs_period_us": "100000\n"}, "3:cpu:/\n", 4),
        ({"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, "3:cpu:/\n", 8),
        ({"cpu.max": "no numbers"}, "damaged", 8),
        ({"cpu.max": "1 0"}, "0::/\n", 8),
    ],
)
def test_the_least_of_affinity_and_quotas(
    files: dict[str, str], group: str | None, expected: int, tmp_path: Path
) -> None:
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    own = tmp_path / "own"
    if group is not None:
        own.write_text(group)
    assert available_cores(tmp_path, own) == expected


def test_here_it_is_at_least_one() -> None:
    assert 1 <= available_cores() <= 8
    assert cores.available_cores(Path("/nowhere"), Path("/nowhere")) == 8
