"""The bound on the error of costs: its dependencies, and that it covers the costs of graphs."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest

from gsp_deploy.cost_bounds import (
    SPLIT_ERRORS,
    cost_error_bound,
    log_mass_error_bound,
    smallest_separation,
)


def random_prototypes(count: int = 32, dim: int = 64) -> np.ndarray:
    return np.random.default_rng(0).standard_normal((count, dim))


def test_well_separated_prototypes_leave_some_tens_of_roundings() -> None:
    prototypes = random_prototypes()
    assert 1e-6 < cost_error_bound(prototypes) < 3e-5
    assert 1e-4 < log_mass_error_bound(20.0, prototypes) < 1e-3


@pytest.mark.parametrize("gamma", [0.1, 5.0, 100.0])
def test_the_costs_error_weighs_gamma_times(gamma: float) -> None:
    prototypes = random_prototypes()
    bound = log_mass_error_bound(gamma, prototypes)
    assert gamma * cost_error_bound(prototypes) < bound
    assert bound < log_mass_error_bound(2 * gamma, prototypes)


def test_it_grows_as_two_prototypes_come_near_each_other() -> None:
    bounds = []
    for apart in (1.0, 0.3, 0.1, 0.03, 0.01, 1e-3, 1e-5):
        prototypes = random_prototypes()
        prototypes[1] = prototypes[0]
        prototypes[1, 0] += apart * np.linalg.norm(prototypes[0])
        bounds.append(cost_error_bound(prototypes))
    assert bounds == sorted(bounds)
    assert bounds[-1] < 1e-2


def test_equal_prototypes_are_one() -> None:
    prototypes = random_prototypes()
    prototypes[5] = 2 * prototypes[9]  # the same direction, and so the same inside the ball
    assert smallest_separation(prototypes) > 0.5
    assert cost_error_bound(prototypes) < 3e-5


def test_one_prototype_has_no_other() -> None:
    assert smallest_separation(random_prototypes(count=1)) is None
    assert cost_error_bound(random_prototypes(count=1)) < 1e-5


def test_the_separation_is_that_inside_the_unit_ball() -> None:
    prototypes = np.array([[3.0, 0.0], [0.0, 0.5], [0.0, 0.25]])
    assert smallest_separation(prototypes) == pytest.approx(0.25)


@pytest.mark.parametrize("length", [0.3, 1.0])
@pytest.mark.parametrize("precision", SPLIT_ERRORS)
def test_prototypes_in_two_halves_stay_within_the_bound(precision: str, length: float) -> None:
    """The costs from high + low halves, in float64: only what the halves leave is off."""
    dtype = {"fp16": np.float16, "bf16": ml_dtypes.bfloat16}[precision]
    draw = np.random.default_rng(1)
    prototypes = draw.standard_normal((64, 48))
    prototypes = (length * prototypes / np.linalg.norm(prototypes, axis=1)[:, None]).astype("f4")
    points = draw.standard_normal((5000, 48))
    points /= np.linalg.norm(points, axis=1)[:, None]
    high = prototypes.astype(dtype)
    halves = high.astype("f8") + (prototypes - high.astype("f4")).astype(dtype).astype("f8")
    off = np.abs(halves - prototypes).max() / length
    assert off <= SPLIT_ERRORS[precision]
    squares = np.square(prototypes.astype("f8")).sum(axis=1) + 1
    exact, found = (np.sqrt(squares - 2 * points @ p.T.astype("f8")) for p in (prototypes, halves))
    added = cost_error_bound(prototypes, SPLIT_ERRORS[precision]) - cost_error_bound(prototypes)
    assert np.abs(found - exact).max() <= added
    assert added < 2 * SPLIT_ERRORS[precision] / length * 4
