"""The kernel's own source, run on the CPU, against float64: every mode, layout, type and plan."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from .building import needs_compiler
from .cases import LAYOUTS, POOLINGS, SOLVERS, TYPES, Case, draw_inputs, expected_outputs, run_cases

pytestmark = needs_compiler

REAL_PLANS = ("block", "cluster", "split")
# The inputs are rounded before the comparison, so that what is left is the kernel's own error:
# float32 sums, and prototypes of which bfloat16 keeps 16 bits in two halves.
TOLERANCE = {"float32": 1e-5, "float16": 1e-5, "bfloat16": 1e-4}
# Outputs in these types are rounded once more.
ROUNDING = {"float32": 0.0, "float16": 2.0**-11, "bfloat16": 2.0**-8}
# (N, D, M): odd sizes, whole tiles, beyond one tile, beyond what a warp solves alone.
SIZES = [
    (1, 8, 1),
    (33, 13, 3),
    (50, 70, 64),
    (64, 64, 64),
    (98, 40, 129),
    (147, 9, 65),
    (300, 16, 3),
]


def assert_right(program: Path, cases: Sequence[Case]) -> None:
    """Run the cases and hold every output to the float64 expectation."""
    given = [(case, draw_inputs(case)) for case in cases]
    for (case, inputs), found in zip(given, run_cases(program, given), strict=True):
        assert found.error == 0, case
        expected = expected_outputs(case, inputs)
        for name in ("pooled", "weights", "attributes"):
            np.testing.assert_allclose(
                getattr(found, name),
                getattr(expected, name),
                rtol=TOLERANCE[case.input_type] + ROUNDING[case.output_type],
                atol=TOLERANCE[case.input_type],
                err_msg=f"{name} of {case}",
            )


@pytest.mark.parametrize("plan", REAL_PLANS)
@pytest.mark.parametrize("input_type", TYPES)
def test_every_pooling_layout_and_solver(program: Path, plan: str, input_type: str) -> None:
    grid = itertools.product(POOLINGS, LAYOUTS, SOLVERS)
    base = Case(plan=plan, input_type=input_type, batch=1 if plan == "cluster" else 2)
    assert_right(
        program,
        [
            replace(
                base,
                pooling=pooling,
                layout=layout,
                solver=solver,
                iterations={"newton": 20, "fixed-point": 7, "certified": 2}[solver],
                grid_points=63 if solver == "certified" else 0,
                normalize=pooling == "gap",
                seed=seed,
            )
            for seed, (pooling, layout, solver) in enumerate(grid)
        ],
    )


@pytest.mark.parametrize("input_type", TYPES)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_odd_sizes(program: Path, layout: str, input_type: str) -> None:
    sizes = [
        Case(1, *size, layout=layout, input_type=input_type, normalize=True, seed=seed)
        for seed, size in enumerate(SIZES)
    ]
    for_each_plan = [replace(case, plan=plan) for case in sizes for plan in ("block", "split")]
    assert_right(program, [*for_each_plan, replace(sizes[2], plan="cluster")])


def test_without_matrix_units(scalar_program: Path) -> None:
    grid = itertools.product(("float16", "bfloat16"), LAYOUTS, SIZES[1:5])
    base = Case(batch=1, normalize=True)
    assert_right(
        scalar_program,
        [
            replace(
                base, input_type=kind, layout=layout, locations=n, embedding_dim=d, prototypes=m
            )
            for kind, layout, (n, d, m) in grid
        ],
    )


@pytest.mark.parametrize("layout", LAYOUTS)
def test_arrays_that_no_vector_load_may_touch(program: Path, layout: str) -> None:
    base = Case(locations=64, embedding_dim=64, misaligned=1, layout=layout, batch=1)
    assert_right(program, [replace(base, input_type=kind) for kind in TYPES])


@pytest.mark.parametrize("layout", LAYOUTS)
def test_an_address_of_any_element_gives_the_same_bits(program: Path, layout: str) -> None:
    base = Case(1, 16, 16, 3, layout=layout, input_type="float16", output_type="bfloat16")
    inputs = draw_inputs(base)
    for plan in REAL_PLANS:
        cases = [replace(base, plan=plan, misaligned=elements) for elements in (0, 1, 4, 8)]
        aligned, *others = run_cases(program, [(case, inputs) for case in cases])
        for found in others:
            assert (found.pooled == aligned.pooled).all()
            assert (found.weights == aligned.weights).all()
            assert (found.attributes == aligned.attributes).all()


def test_the_largest_sizes(program: Path) -> None:
    base = Case(batch=1, input_type="float16", normalize=True)
    assert_right(
        program,
        [
            replace(base, locations=4096, embedding_dim=8, prototypes=3, plan="split"),
            replace(base, locations=4096, embedding_dim=8, prototypes=3, plan="block"),
            replace(base, locations=20, embedding_dim=16, prototypes=1024),
            replace(base, locations=9, embedding_dim=4096, prototypes=3, layout="channels-last"),
            replace(base, locations=9, embedding_dim=4096, prototypes=3, input_type="float32"),
            replace(base, normalize=False, pooling="gem", channels=2100, plan="cluster"),
        ],
    )


@pytest.mark.parametrize("output_type", ["float16", "bfloat16"])
def test_outputs_in_half_precision(program: Path, output_type: str) -> None:
    base = Case(output_type=output_type, batch=1)
    assert_right(program, [replace(base, plan=plan, normalize=True) for plan in REAL_PLANS])


@pytest.mark.parametrize("plan", REAL_PLANS)
def test_a_ratio_of_one_is_exactly_the_average(program: Path, plan: str) -> None:
    case = Case(ratio=1, plan=plan, locations=8, batch=1)
    inputs = draw_inputs(case)
    whole = replace(inputs, embeddings=np.round(8 * inputs.embeddings))  # sums without rounding
    for attributes in (True, False):
        (found,) = run_cases(program, [(replace(case, attributes=attributes), whole)])
        assert (found.pooled == whole.embeddings.astype(np.float64).mean(axis=2)).all()
        assert (found.weights == 1).all()
    assert_right(program, [replace(case, pooling=pooling) for pooling in POOLINGS])
    short = replace(case, normalize=True, attributes=False)  # nothing is solved before that
    (found,) = run_cases(program, [(short, inputs)])
    np.testing.assert_allclose(found.pooled, expected_outputs(short, inputs).pooled, atol=1e-5)


def test_the_papers_iteration_step_by_step(program: Path) -> None:
    base = Case(solver="fixed-point", gamma=5, batch=1)
    starts = [(steps, scale) for steps in (1, 2, 5, 100) for scale in (0.0, 1.0)]
    assert_right(
        program, [replace(base, iterations=steps, initial_scale=t0) for steps, t0 in starts]
    )


@pytest.mark.parametrize("solver", SOLVERS)
def test_extreme_settings_stay_finite(program: Path, solver: str) -> None:
    points = 63 if solver == "certified" else 0
    base = Case(batch=1, solver=solver, iterations=60, grid_points=points, embedding_dim=16)
    grid = itertools.product((1e-4, 0.1, 50, 1e6), (1e-3, 0.3, 0.999), (0.0, 0.7, 60.0))
    cases = [replace(base, gamma=g, ratio=mu, scale=scale) for g, mu, scale in grid]
    given = [(case, draw_inputs(case)) for case in cases]
    for (case, _), found in zip(given, run_cases(program, given), strict=True):
        for name in ("pooled", "weights", "attributes"):
            assert np.isfinite(getattr(found, name)).all(), (name, case)
        np.testing.assert_allclose(found.attributes.sum(axis=1), 1, rtol=1e-4)
        if solver != "fixed-point" and case.gamma <= 50:
            np.testing.assert_allclose(found.weights.mean(axis=1), 1, rtol=1e-4, err_msg=str(case))


@pytest.mark.parametrize("plan", REAL_PLANS)
def test_every_order_of_threads_gives_the_same_bits(program: Path, plan: str) -> None:
    base = Case(plan=plan, normalize=True, batch=1)
    cases = [
        replace(base, locations=n, layout=layout, input_type=kind)
        for n, layout, kind in zip((49, 300), LAYOUTS, ("float16", "float32"), strict=True)
    ]
    told = {"solver": "certified", "iterations": 2, "grid_points": 63, "residual": True}
    cases += [replace(case, bound=True, gamma=20, **told) for case in cases]
    given = [(case, draw_inputs(case)) for case in cases]
    forward = run_cases(program, given)
    backward = run_cases(program, given, {"EMULATION_ORDER": "reverse"})
    for one, other in zip(forward, backward, strict=True):
        assert (one.pooled == other.pooled).all()
        assert (one.weights == other.weights).all()
        assert (one.attributes == other.attributes).all()
        assert (one.residual is None) or (one.residual == other.residual).all()
        assert (one.bound is None) or (one.bound == other.bound).all()


def test_an_image_does_not_depend_on_its_batch(program: Path) -> None:
    case = Case(batch=3, input_type="float16", normalize=True)
    inputs = draw_inputs(case)
    (together,) = run_cases(program, [(case, inputs)])
    alone = replace(inputs, embeddings=inputs.embeddings[1:2], features=inputs.features[1:2])
    (single,) = run_cases(program, [(replace(case, batch=1), alone)])
    assert (together.pooled[1] == single.pooled[0]).all()
    assert (together.weights[1] == single.weights[0]).all()
