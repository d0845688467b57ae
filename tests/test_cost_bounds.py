"""The bound on the error of costs: its dependencies, and that it covers the costs of graphs."""

from __future__ import annotations

import numpy as np
import pytest

from gsp_deploy.cost_bounds import cost_error_bound, log_mass_error_bound, smallest_separation


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
