"""The certified solver in the kernel: inputs made to be hard, too few points, and every plan."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from gsp_deploy.bounds import Sweep
from gsp_deploy.cost_bounds import log_mass_error_bound
from gsp_deploy.float32_bounds import SolverSetting, weight_error_bound

from .building import needs_compiler
from .cases import Case, Inputs, draw_inputs, expected_outputs, run_cases

pytestmark = needs_compiler

PLANS = ("block", "split", "cluster")
STEPS = 2
UNIT_ROUNDOFF = 2.0**-24
GAMMAS = (0.1, 1.0, 5.0, 20.0, 50.0, 100.0, 200.0)
RATIOS = (0.01, 0.1, 0.3, 0.5, 0.9, 0.99)


def error_after(log_mass_range: float, points: int) -> float:
    """Return the bound on |beta - beta*|: half a cell, then third-order steps from it."""
    h = log_mass_range / (2 * (points + 1))
    for _ in range(STEPS):
        if h >= 2 * math.acosh(2):
            return math.inf
        h = 2 * math.sinh(h / 2) / (2 - math.cosh(h / 2)) - h
    return h


def points_for(gamma: float) -> int:
    """Return points enough for 1e-5, costs being in [0, 2]."""
    return next(g for g in itertools.count(1) if error_after(2 * gamma, g) <= 1e-5)


def share_error_bound(case: Case) -> float:
    """Return a bound on mu |w - w*|: the method's, and float32 in costs, logits and sigmoids."""
    logit = abs(math.log(case.ratio / (1 - case.ratio)))
    rounding = UNIT_ROUNDOFF * (6 * case.gamma + 2 * logit + 8)
    return (error_after(2 * case.gamma, case.grid_points) + rounding) / 4 + 8 * UNIT_ROUNDOFF


def stated_share_error(case: Case) -> float:
    """Return mu times what an export states of such weights."""
    costs = log_mass_error_bound(case.gamma, np.ones((1, 1)))
    setting = SolverSetting(case.ratio, 2 * case.gamma, costs, case.locations)
    return case.ratio * weight_error_bound(Sweep(case.grid_points, STEPS), setting)


def few_log_masses(draw: np.random.Generator, images: int, locations: int) -> np.ndarray:
    """Draw embeddings `(B, 1, N)` of two to five values each; with p = 1, l = -gamma (1 - f)."""
    embeddings = np.empty((images, 1, locations), np.float32)
    for image in embeddings:
        count = draw.integers(2, 6)
        values = 1 - 2 * draw.random(count) ** draw.choice([1, 3, 8])
        if draw.random() < 0.5:
            values[:2] = 1, -1  # the whole bracket
        shares = draw.dirichlet(np.full(count, draw.choice([0.1, 1, 5])))
        image[0] = values[draw.choice(count, locations, p=shares)]
    return embeddings


def hard_cases(plan: str, locations: int) -> Iterator[tuple[Case, Inputs]]:
    draw = np.random.default_rng(locations)
    images = 1 if plan == "cluster" else 4
    base = Case(images, locations, 1, 1, 1, solver="certified", iterations=STEPS, plan=plan,
                residual=True, attributes=False)  # fmt: skip
    for gamma, ratio in itertools.product(GAMMAS, RATIOS):
        case = replace(base, gamma=gamma, ratio=ratio, grid_points=points_for(gamma))
        features = np.zeros((images, 1, locations), np.float32)
        one = np.ones((1, 1), np.float32)
        yield case, Inputs(few_log_masses(draw, images, locations), features, one)


def test_what_is_held_here_is_tighter_than_what_an_export_states() -> None:
    for case, _ in hard_cases("block", 49):
        assert share_error_bound(case) <= stated_share_error(case)


@pytest.mark.parametrize(
    ("plan", "locations"),
    [*itertools.product(("block", "split"), (2, 7, 49, 300)), ("cluster", 7), ("cluster", 49)],
)
def test_no_input_exceeds_the_bound(program: Path, plan: str, locations: int) -> None:
    given = list(hard_cases(plan, locations))
    for (case, inputs), found in zip(given, run_cases(program, given), strict=True):
        expected = expected_outputs(case, inputs)
        errors = np.abs(found.weights - expected.weights)
        assert case.ratio * errors.max() <= share_error_bound(case), case
        # All errors share a sign: what is missing from the mean is the mean error.
        rounding = 4 * UNIT_ROUNDOFF / case.ratio
        np.testing.assert_allclose(found.residual, errors.mean(axis=1), atol=rounding)


def test_too_few_points_are_seen(program: Path) -> None:
    """A quarter of the points that the bound needs breaks it, on inputs of the same kind."""
    enough = [pair for pair in hard_cases("block", 49) if pair[0].gamma >= 20]
    few = [(replace(c, grid_points=c.grid_points // 4), inputs) for c, inputs in enough]
    broken = 0
    for (case, inputs), (_, _), found in zip(enough, few, run_cases(program, few), strict=True):
        errors = np.abs(found.weights - expected_outputs(case, inputs).weights)
        broken += case.ratio * errors.max() > share_error_bound(case)
    assert broken > 0


@pytest.mark.parametrize("plan", PLANS)
def test_one_location_and_equal_locations_have_weights_of_one(program: Path, plan: str) -> None:
    base = Case(batch=1, solver="certified", iterations=STEPS, grid_points=63, plan=plan,
                residual=True, bound=True)  # fmt: skip
    for ratio, locations, scale in itertools.product((0.01, 0.3, 0.99), (1, 49, 300), (0.0, 0.7)):
        case = replace(base, ratio=ratio, locations=locations, scale=scale)
        inputs = draw_inputs(case)
        constant = np.repeat(inputs.embeddings[:, :, :1], locations, axis=2)
        (found,) = run_cases(program, [(case, replace(inputs, embeddings=constant))])
        np.testing.assert_allclose(found.weights, 1, rtol=1e-6)
        np.testing.assert_allclose(found.residual, 0, atol=1e-6)
        assert np.isfinite(found.bound).all()


def test_any_number_of_points_and_locations(program: Path) -> None:
    """Lanes of a point from four to a warp, points in one round and in many."""
    base = Case(batch=1, solver="certified", embedding_dim=8, attributes=False, gamma=2.0)
    sizes = itertools.product((1, 5, 33, 65, 129, 257, 700), (1, 15, 64, 65, 300, 4096))
    cases = [replace(base, locations=n, grid_points=g, iterations=6) for n, g in sizes]
    given = [(case, draw_inputs(case)) for case in cases]
    for (case, inputs), found in zip(given, run_cases(program, given), strict=True):
        expected = expected_outputs(case, inputs).weights
        np.testing.assert_allclose(found.weights, expected, rtol=2e-6, err_msg=str(case))
