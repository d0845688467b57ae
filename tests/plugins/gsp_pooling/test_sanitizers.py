"""Races and accesses out of bounds in the kernel's own source, and proof that they would be seen.

Every check runs twice: on the source as it is, where it must be silent, and on a copy with a
planted mistake, where it must not.
"""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from .building import ADDRESSES, ONLY_FLOAT16, PLAIN, THREADS, Fault, Variant, build, needs_compiler
from .cases import Case, draw_inputs, expected_outputs, run_cases

pytestmark = needs_compiler

BASE = Case(1, 33, 13, 5, 10, input_type="float16", normalize=True)
# With a scale of 0.1 locations are near each other and near the prototypes.
CERTIFIED = {
    "solver": "certified",
    "iterations": 2,
    "grid_points": 63,
    "residual": True,
    "bound": True,
}
CASES = [
    BASE,
    replace(BASE, layout="channels-last", plan="cluster", embedding_dim=16, locations=20),
    replace(BASE, plan="split", locations=270, prototypes=66),
    replace(BASE, layout="channels-last", pooling="gem", normalize=False),
    replace(BASE, pooling="gmp", normalize=False, misaligned=1),
    replace(BASE, **CERTIFIED),
    replace(BASE, plan="split", locations=270, scale=0.1, **CERTIFIED),
    replace(BASE, plan="cluster", normalize=False, **CERTIFIED),
]

NO_BARRIER_BEFORE_SCORES = Fault(
    "kernels/cost.cuh", "__syncthreads();  // products and squares are complete", ";"
)
NO_CLUSTER_BARRIER = Fault(
    "kernels/image_kernel.cuh", "blocks.sync();  // every location's log-mass is there",
    "__syncthreads();",
)  # fmt: skip
ONE_ELEMENT_TOO_MANY = Fault(
    "kernels/vectors.cuh", "k < valid ? source[k]", "k <= valid ? source[k]"
)
WRONG_STEP = Fault("kernels/transport.cuh", "beta - excess / slope", "beta + excess / slope")
BARRIER_FOR_SOME = Fault(
    "kernels/reductions.cuh", "__syncthreads();  // every warp's share is there",
    "if (threadIdx.x < 128) __syncthreads();",
)  # fmt: skip


def report(program: Path, cases: Sequence[Case]) -> str:
    """Run the cases until the program fails, and return what it says; "" when it does not."""
    try:
        run_cases(program, [(case, draw_inputs(case)) for case in cases])
    except subprocess.CalledProcessError as error:
        return error.stderr.decode()
    return ""


def is_supported(variant: Variant, folder: Path) -> bool:
    """Whether this machine's compiler has the sanitizer's runtime."""
    source = folder / "empty.cpp"
    source.write_text("int main() { return 0; }\n")
    program = folder / "empty"
    built = subprocess.run(
        ["g++", *variant.flags, source, "-o", program], capture_output=True, check=False
    )
    return built.returncode == 0 and subprocess.run([program], check=False).returncode == 0


@pytest.mark.parametrize(
    ("variant", "mistake", "says"),
    [
        pytest.param(THREADS, NO_BARRIER_BEFORE_SCORES, "data race", id="races"),
        pytest.param(ADDRESSES, ONE_ELEMENT_TOO_MANY, "heap-buffer-overflow", id="bounds"),
    ],
)
def test_silent_on_the_source_and_loud_on_a_mistake(
    tmp_path: Path, variant: Variant, mistake: Fault, says: str
) -> None:
    if not is_supported(variant, tmp_path):
        pytest.skip(f"g++ has no runtime for {variant.flags[1]} that works here")
    for name in ("sound", "mistaken"):
        (tmp_path / name).mkdir()
    sound = build(tmp_path / "sound", variant, ONLY_FLOAT16)
    assert report(sound, CASES) == ""
    mistaken = build(tmp_path / "mistaken", variant, (*ONLY_FLOAT16, mistake))
    assert says in report(mistaken, CASES)


def test_the_oracles_see_a_mistake(tmp_path: Path) -> None:
    """A wrong step, a barrier that half the block misses, and blocks that do not wait."""
    mistakes = (WRONG_STEP, BARRIER_FOR_SOME, NO_CLUSTER_BARRIER)
    program = build(tmp_path, PLAIN, (*ONLY_FLOAT16, *mistakes))
    inputs = draw_inputs(BASE)
    plain = replace(BASE, normalize=False)  # a normalisation has a barrier for some
    (found,) = run_cases(program, [(plain, inputs)])
    assert np.abs(found.weights - expected_outputs(plain, inputs).weights).max() > 1e-2
    assert "deadlock" in report(program, [BASE])
    # Three of the eight blocks have no locations, and run ahead to pool with what is not there yet.
    early = {"solver": "fixed-point", "iterations": 1}  # more would converge on what comes late
    apart = replace(plain, plan="cluster", embedding_dim=64, **early)
    inputs = draw_inputs(apart)
    (found,) = run_cases(program, [(apart, inputs)])
    assert not np.allclose(found.pooled, expected_outputs(apart, inputs).pooled, atol=1e-3)
