"""What an answer says of its own error, and what bad input makes of one image of a batch."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from .building import needs_compiler
from .cases import POOLINGS, SOLVERS, Case, Outputs, draw_inputs, expected_outputs, run_cases

pytestmark = needs_compiler

PLANS = ("block", "split", "cluster")
OUTPUTS = ("pooled", "weights", "attributes", "residual", "bound")
STEPS = {"fixed-point": 7, "newton": 20, "certified": 2}


def exact(case: Case) -> Case:
    return replace(case, solver="newton")  # what the expectation solves by bisection


def cosine_distance(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    lengths = np.linalg.norm(one, axis=1) * np.linalg.norm(other, axis=1)
    return 1 - (one * other).sum(axis=1) / lengths


def relative_error(found: np.ndarray, expected: np.ndarray) -> np.ndarray:
    return np.linalg.norm(found - expected, axis=1) / np.linalg.norm(found, axis=1)


@pytest.mark.parametrize("plan", PLANS)
@pytest.mark.parametrize("normalize", [False, True])
def test_the_residual_is_the_mean_error_and_bounds_the_embedding(
    program: Path, plan: str, normalize: bool
) -> None:
    """Solvers that were stopped too early say so."""
    base = Case(plan=plan, batch=2, residual=True, bound=True, normalize=normalize, gamma=20)
    early = itertools.product((("fixed-point", 1), ("fixed-point", 5), ("newton", 1)), (49, 300))
    cases = [
        replace(base, solver=solver, iterations=steps, locations=n, ratio=0.2)
        for (solver, steps), n in early
    ]
    given = [(case, draw_inputs(case)) for case in cases]
    worst = 0.0
    for (case, inputs), found in zip(given, run_cases(program, given), strict=True):
        expected = expected_outputs(exact(case), inputs)
        errors = np.abs(found.weights - expected.weights).mean(axis=1)
        np.testing.assert_allclose(found.residual, errors, rtol=1e-3, atol=1e-5)
        assert (found.bound >= cosine_distance(found.pooled, expected.pooled) - 1e-7).all()
        if not normalize:
            assert (found.bound >= relative_error(found.pooled, expected.pooled) - 1e-6).all()
        worst = max(worst, float(found.residual.max()))
    assert worst > 1e-2  # the cases show something


@pytest.mark.parametrize("plan", PLANS)
def test_a_certificate_changes_no_other_output(program: Path, plan: str) -> None:
    base = Case(plan=plan, batch=1, input_type="float16", solver="certified", iterations=2,
                grid_points=31)  # fmt: skip
    for normalize in (False, True):
        case = replace(base, normalize=normalize)
        inputs = draw_inputs(case)
        plain, told = run_cases(
            program, [(case, inputs), (replace(case, residual=True, bound=True), inputs)]
        )
        assert (plain.weights == told.weights).all()
        np.testing.assert_allclose(plain.pooled, told.pooled, rtol=1e-6)
        assert told.residual.max() < 1e-6
        assert told.bound.max() < 1e-5


@pytest.mark.parametrize("plan", PLANS)
def test_what_is_not_solved_has_no_error(program: Path, plan: str) -> None:
    case = Case(ratio=1, plan=plan, batch=1, residual=True, bound=True)
    for attributes in (True, False):
        one = replace(case, attributes=attributes)
        (found,) = run_cases(program, [(one, draw_inputs(one))])
        assert (found.residual == 0).all()
        assert (found.bound == 0).all()


def test_a_bound_needs_gap_and_a_residual(program: Path) -> None:
    case = Case(1, 4, 4, 2, 4, bound=True)
    for wrong in (case, replace(case, residual=True, pooling="gmp")):
        (found,) = run_cases(program, [(wrong, draw_inputs(wrong))])
        assert found.error == 1


def assert_only_the_second_is_bad(found: Outputs, clean: Outputs) -> None:
    for name in OUTPUTS:
        bad, good = getattr(found, name), getattr(clean, name)
        if good is None:
            continue
        assert np.isnan(bad[1]).all(), name
        assert (bad[[0, 2]] == good[[0, 2]]).all(), name


@pytest.mark.parametrize("plan", PLANS)
@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_bad_input_spoils_its_own_image_alone(
    program: Path, plan: str, solver: str, value: float
) -> None:
    base = Case(
        *(3, 49, 24, 5, 16),
        plan=plan,
        solver=solver,
        iterations=STEPS[solver],
        grid_points=31 if solver == "certified" else 0,
        residual=True,
    )
    poolings = POOLINGS if plan == "block" else ("gap",)
    for pooling, kind in itertools.product(poolings, ("float32", "float16")):
        gap = pooling == "gap"
        case = replace(base, pooling=pooling, bound=gap, normalize=gap, input_type=kind)
        inputs = draw_inputs(case)
        bad = inputs.embeddings.copy()
        bad[1, 3, 17] = value
        clean, found = run_cases(program, [(case, inputs), (case, replace(inputs, embeddings=bad))])
        assert_only_the_second_is_bad(found, clean)


def test_a_length_beyond_float32_is_not_passed_over(program: Path) -> None:
    case = Case(batch=3, residual=True, bound=True)
    inputs = draw_inputs(case)
    bad = inputs.embeddings.copy()
    bad[1, :, 5] = 1e19  # its square is not finite, though it is
    clean, found = run_cases(program, [(case, inputs), (case, replace(inputs, embeddings=bad))])
    assert np.isnan(found.weights[1]).all()
    assert (found.weights[[0, 2]] == clean.weights[[0, 2]]).all()


@pytest.mark.parametrize("pooling", ["gmp", "gem"])
@pytest.mark.parametrize("ratio", [0.3, 1.0])
def test_nan_in_features_reaches_the_pooled_channel(
    program: Path, pooling: str, ratio: float
) -> None:
    case = Case(batch=2, pooling=pooling, ratio=ratio, attributes=False)
    for layout in ("channels-first", "channels-last"):
        laid = replace(case, layout=layout)
        inputs = draw_inputs(laid)
        bad = inputs.features.copy()
        bad[1, 3, 40] = np.nan
        clean, found = run_cases(program, [(laid, inputs), (laid, replace(inputs, features=bad))])
        assert np.isnan(found.pooled[1, 3])
        assert (found.pooled[0] == clean.pooled[0]).all()
        others = np.arange(case.channels) != 3
        assert (found.pooled[1, others] == clean.pooled[1, others]).all()
