"""Cubins for every target, held to the checked-in budget; and what a launch asks for."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from .building import needs_compiler
from .cases import Case, launches_of
from .resources import (
    NVCC,
    TARGETS,
    Resources,
    compile_all,
    compiler_release,
    excesses,
    parse_report,
    read_budget,
)

REPORT = """\
ptxas info    : Compiling entry function '_ZN1a11pool_imagesI6__halfLNS_6LayoutE1EEEvNS_9ArgE' for
ptxas info    : Function properties for _ZN1a11pool_images
    16 bytes stack frame, 12 bytes spill stores, 12 bytes spill loads
ptxas info    : Used 120 registers, used 1 barriers, 16 bytes cumulative stack size
ptxas info    : Compiling entry function '_ZN1a14normalise_rowsENS_9ArgumentsE' for 'sm_80'
ptxas info    : Function properties for _ZN1a14normalise_rowsENS_9ArgumentsE
    0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads
ptxas info    : Used 32 registers, used 1 barriers, 64 bytes smem, 488 bytes cmem[0]
"""


@pytest.mark.slow
@pytest.mark.skipif(NVCC is None, reason="needs nvcc; no GPU")
def test_every_target_stays_within_the_budget() -> None:
    budget = read_budget()
    if compiler_release() != budget["nvcc"]:
        pytest.skip(f"the budget is for nvcc {budget['nvcc']}, here is {compiler_release()}")
    found = compile_all()
    assert set(found) == set(TARGETS)
    assert all(len(kernels) == 4 * 6 + 1 for kernels in found.values())
    assert excesses(budget, found) == []


def test_the_report_is_read_and_every_excess_is_named() -> None:
    found = parse_report(REPORT)
    assert found == {
        "pool_images float16 channels-last": Resources(120, 12, 0),
        "normalise_rows": Resources(32, 0, 64),
    }
    kernel = "pool_images float16 channels-last"
    registers = {"80": {kernel: 119, "normalise_rows": 32}}
    budget = {"registers": registers, "spills": {"80": {kernel: 11}}}
    assert excesses(budget, {"80": found}) == [
        "sm_80 pool_images float16 channels-last: 120 registers, budget 119",
        "sm_80 pool_images float16 channels-last: 12 bytes of spills, budget 11",
        "sm_80 normalise_rows: 64 bytes of static shared memory, budget 0",
    ]
    assert excesses(
        {
            **budget,
            "registers": {"80": {kernel: 120, "normalise_rows": 32}},
            "spills": {"80": {kernel: 12}},
        },
        {"80": found},
    ) == ["sm_80 normalise_rows: 64 bytes of static shared memory, budget 0"]
    assert "registers, budget 0" in excesses(budget, {"75": found})[0]


@needs_compiler
def test_shared_memory_of_a_launch_stays_within_the_budget(program: Path) -> None:
    """At N = 49, D = 512, M = 64; more than it needs is more than the budget says."""
    usual = Case(1, 49, 512, 64, normalize=True, weights=False, attributes=False)
    for kind, allowed in read_budget()["shared_bytes"].items():
        (launch,) = launches_of(program, replace(usual, input_type=kind))
        assert launch.shared == allowed, kind
