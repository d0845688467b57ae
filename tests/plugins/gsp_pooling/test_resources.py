"""Cubins held to the checked-in budget, two targets or all of them; and what a launch asks for."""

from __future__ import annotations

import os
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
    cubin_of,
    excesses,
    parse_report,
    read_budget,
)
from .schedule import (
    CUOBJDUMP,
    VECTORS_OF_A_SLICE,
    disassemble,
    loads_under_way,
    operands_together,
    parse_listing,
    pooled_together,
)

# Orin and H100; every target takes some 15 minutes of two cores: GSP_ALL_TARGETS=1.
COMPILED = TARGETS if os.environ.get("GSP_ALL_TARGETS") else ("87", "90")

TILE_KERNELS = ("pool_images", "log_mass_of_images", "attributes_of_images")

REPORT = """\
ptxas info    : Compiling entry function '_ZN1a11pool_imagesI6__halfLNS_6LayoutE1EEEvNS_9ArgE' for
ptxas info    : Function properties for _ZN1a11pool_images
    16 bytes stack frame, 12 bytes spill stores, 12 bytes spill loads
ptxas info    : Used 120 registers, used 1 barriers, 16 bytes cumulative stack size
ptxas info    : Compiling entry function '_ZN1a14write_rowsENS_9ArgumentsE' for 'sm_80'
ptxas info    : Function properties for _ZN1a14write_rowsENS_9ArgumentsE
    0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads
ptxas info    : Used 32 registers, used 1 barriers, 64 bytes smem, 488 bytes cmem[0]
"""


LISTING = """\
		Function : _ZN1a11pool_imagesI6__halfLNS_6LayoutE1EEEvNS_9ArgE
        /*0070*/                   LDG.E.128 R4, desc[UR4][R2.64] ;  /* 0x000 */
        /*0080*/              @!P0 LDG.E.128.CONSTANT R8, desc[UR4][R4.64] ;
        /*0090*/                   LDG.E.128 R12, desc[UR4][R2.64] ;
        /*00a0*/                   PRMT R20, R14.reuse, 0x7610, R20 ;
        /*00b0*/                   LDSM.16.M88.4 R28, [R41] ;
        /*00c0*/                   LDSM.16.M88.4 R32, [R42] ;
        /*00d0*/                   HMMA.16816.F32 R24, R28, R32, R24 ;
        /*00e0*/                   STS.128 [R40], R8 ;
"""


@pytest.fixture(scope="module")
def cubins(
    tmp_path_factory: pytest.TempPathFactory,
) -> tuple[Path, dict[str, dict[str, Resources]]]:
    """The machine code of each compiled target, and what it needs."""
    if NVCC is None:
        pytest.skip("needs nvcc; no GPU")
    folder = tmp_path_factory.mktemp("cubins")
    return folder, compile_all(folder, COMPILED)


@pytest.mark.slow
def test_every_compiled_target_stays_within_the_budget(cubins) -> None:
    budget = read_budget()
    if compiler_release() != budget["nvcc"]:
        pytest.skip(f"the budget is for nvcc {budget['nvcc']}, here is {compiler_release()}")
    _, found = cubins
    assert set(found) == set(COMPILED)
    assert all(len(kernels) == 4 * 6 + 1 for kernels in found.values())
    assert excesses(budget, found) == []


def test_the_report_is_read_and_every_excess_is_named() -> None:
    found = parse_report(REPORT)
    assert found == {
        "pool_images float16 channels-last": Resources(120, 12, 0),
        "write_rows": Resources(32, 0, 64),
    }
    kernel = "pool_images float16 channels-last"
    registers = {"80": {kernel: 119, "write_rows": 32}}
    budget = {"registers": registers, "spills": {"80": {kernel: 11}}}
    assert excesses(budget, {"80": found}) == [
        "sm_80 pool_images float16 channels-last: 120 registers, budget 119",
        "sm_80 pool_images float16 channels-last: 12 bytes of spills, budget 11",
        "sm_80 write_rows: 64 bytes of static shared memory, budget 0",
    ]
    assert excesses(
        {
            **budget,
            "registers": {"80": {kernel: 120, "write_rows": 32}},
            "spills": {"80": {kernel: 12}},
        },
        {"80": found},
    ) == ["sm_80 write_rows: 64 bytes of static shared memory, budget 0"]
    assert "registers, budget 0" in excesses(budget, {"75": found})[0]


@pytest.mark.slow
@pytest.mark.skipif(CUOBJDUMP is None, reason="needs cuobjdump: CUDA's, or that of triton's wheel")
def test_the_next_slice_is_on_its_way_during_the_product(cubins) -> None:
    folder, _ = cubins
    for target in COMPILED:
        kernels = disassemble(cubin_of(target, folder))
        types = ("float16",) if target == "75" else ("float16", "bfloat16")  # on matrix units
        on_matrix_units = [
            name for name in kernels if name.startswith(TILE_KERNELS) and name.split()[1] in types
        ]
        assert len(on_matrix_units) == 6 * len(types)
        under_way = {name: loads_under_way(kernels[name]) for name in on_matrix_units}
        assert under_way == dict.fromkeys(on_matrix_units, VECTORS_OF_A_SLICE), f"sm_{target}"


@pytest.mark.slow
@pytest.mark.skipif(CUOBJDUMP is None, reason="needs cuobjdump: CUDA's, or that of triton's wheel")
def test_loads_wait_together(cubins) -> None:
    """Four operands of a step of the product, and four vectors of a mean and of a maximum."""
    folder, _ = cubins
    for target in COMPILED:
        kernels = disassemble(cubin_of(target, folder))
        for layout in ("first", "last"):
            kernel = kernels[f"pool_images float16 channels-{layout}"]
            assert operands_together(kernel) >= 3, f"sm_{target} {layout}"
            assert pooled_together(kernel) >= 2 * 3, f"sm_{target} {layout}"


def test_a_load_that_is_waited_for_is_seen() -> None:
    (instructions,) = parse_listing(LISTING).values()
    assert len(instructions) == 8
    assert loads_under_way(instructions) == 1  # one gives an address, one is taken apart
    assert operands_together(instructions) == 1


@needs_compiler
def test_shared_memory_of_a_launch_stays_within_the_budget(program: Path) -> None:
    """At N = 49, D = 512, M = 64; more than it needs is more than the budget says."""
    usual = Case(1, 49, 512, 64, normalize=True, weights=False, attributes=False)
    for kind, allowed in read_budget()["shared_bytes"].items():
        (launch,) = launches_of(program, replace(usual, input_type=kind))
        assert launch.shared == allowed, kind
