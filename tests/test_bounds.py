"""The theorem as code: every bound holds for mixtures that try to break it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gsp_deploy.bounds import (
    METHOD_SHARE,
    Sweep,
    check_reachable,
    log_mass_range,
    newton_error,
    newton_steps,
    relative_error,
    sweep_for,
    third_order_error,
)
from gsp_deploy.errors import GspDeployError
from gsp_deploy.reference import exact_weights, log_mass_of


def sigmoid(x: np.ndarray) -> np.ndarray:
    return np.exp(-np.logaddexp(0, -x))


class Mixture:
    """Random mixtures of sigmoids at points b, and the distances d to a root elsewhere."""

    def __init__(self, seed: int, count: int = 20_000) -> None:
        draw = np.random.default_rng(seed)
        kinds = int(draw.integers(1, 6))
        spread = 10 ** draw.uniform(-1, 2.3)
        self.log_mass = -spread * draw.random((count, kinds))
        self.log_mass[::2] = -spread * (draw.random((len(self.log_mass[::2]), kinds)) < 0.5)
        self.shares = draw.dirichlet(np.full(kinds, 0.3), count) + 1e-30
        self.at = draw.uniform(-5, spread + 5, (count, 1))
        self.to_root = draw.uniform(-2, 2, (count, 1))

    def derivatives(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return m(root) - m, m' and m'', without cancellation."""
        logits = self.at + self.log_mass
        up, down = sigmoid(logits), sigmoid(-logits)
        rise = sigmoid(logits + self.to_root) * down * -np.expm1(-self.to_root)
        terms = (rise, up * down, up * down * (down - up))
        first, second, third = ((self.shares * term).sum(axis=1) for term in terms)
        return first, second, third


@pytest.mark.parametrize("seed", range(12))
def test_no_mixture_breaks_the_bound_of_a_step(seed: int) -> None:
    mixture = Mixture(seed)
    rise, slope, bend = mixture.derivatives()
    distance = np.abs(mixture.to_root[:, 0])
    known = (slope > 1e-280) & (distance > 0.02)
    step = (rise / np.where(known, slope, 1))[known]
    kappa = (bend / np.where(known, slope, 1))[known]
    wanted, distance = mixture.to_root[known, 0], distance[known]
    rounding = 1e-12 * (1 + np.abs(step))
    newton = np.array([newton_error(h) for h in distance])
    assert (np.abs(step - wanted) <= newton + rounding).all()
    third = np.array([third_order_error(h) for h in distance])
    assert (np.abs(step / (1 + kappa * step / 2) - wanted) <= third + rounding).all()


@pytest.mark.parametrize("distance", [0.01, 0.1, 0.5, 0.7, 1.0, 1.5, 2.0])
def test_the_bound_of_a_step_is_sharp(distance: float) -> None:
    """Two groups of saturated locations, far to both sides, reach it: m' is a cosh between them."""
    bend = np.linspace(-0.9999, 0.9999, 200_001)
    rise = np.sinh(distance) + bend * (np.cosh(distance) - 1)
    worst = np.abs(rise / (1 + bend * rise / 2) - distance).max()
    assert worst == pytest.approx(third_order_error(distance), rel=1e-6)


def test_the_bounds_are_of_the_order_that_they_say() -> None:
    assert third_order_error(1e-2) == pytest.approx(1e-6 / 6, rel=1e-3)
    assert newton_error(1e-2) == pytest.approx(1e-4 / 2, rel=1e-2)
    assert third_order_error(2.7) == np.inf
    both_sides = third_order_error(np.nextafter(1e-3, 0)), third_order_error(np.nextafter(1e-3, 1))
    assert both_sides[0] == pytest.approx(both_sides[1], rel=1e-3)


@pytest.mark.parametrize("gamma", [0.1, 1, 5, 20, 50, 100, 200, 1000])
@pytest.mark.parametrize("tolerance", [1e-2, 1e-4, 1e-6])
def test_a_sweep_has_the_fewest_points_that_meet_its_share_of_the_tolerance(
    gamma: float, tolerance: float
) -> None:
    widest = 2 * gamma
    sweep = sweep_for(widest, tolerance)
    assert sweep.method_error(widest) <= METHOD_SHARE * tolerance
    fewer = Sweep(sweep.points - 1, sweep.steps)
    assert sweep.points == 1 or fewer.method_error(widest) > METHOD_SHARE * tolerance
    ranges = np.linspace(1e-3, widest, 50)
    errors = [sweep.method_error(float(r)) for r in ranges]
    assert max(errors) == errors[-1]  # the widest range bounds every image


def test_more_steps_need_fewer_points() -> None:
    points = [sweep_for(40.0, 1e-9, steps).points for steps in (1, 2, 3, 4)]
    assert points == sorted(points, reverse=True)
    assert points[0] > 100 * points[2]


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.floats(-400, 0), min_size=2, max_size=5),
    st.floats(0.01, 0.99),
    st.floats(-0.5, 0.5),
)
def test_a_scale_that_is_off_moves_weights_by_no_more_than_its_bound(values, ratio, off) -> None:
    log_mass = np.array([values])
    exact = exact_weights(log_mass, ratio)
    middle = int(np.argmin(np.abs(exact[0] * ratio - 0.5)))
    kept = exact[0, middle] * ratio
    if not 1e-9 < kept < 1 - 1e-9:
        return  # the root cannot be read off saturated locations
    root = np.log(kept) - np.log1p(-kept) - values[middle]
    moved = sigmoid(root + off + log_mass) / ratio
    error = np.abs(moved - exact)
    assert error.max() <= abs(off) / 4 / ratio + 1e-9
    assert abs(error.mean() - abs(moved.mean() - 1)) < 1e-9  # the marginal is the mean error
    spread, width = np.ptp(exact), np.ptp(log_mass)
    if spread > 1e-6:
        assert error.max() / spread <= relative_error(abs(off), width) * (1 + 1e-5) + 1e-9


@pytest.mark.parametrize("gamma", [0.1, 1, 5, 20, 100])
@pytest.mark.parametrize("length", [0.3, 1.0, 4.0])
@pytest.mark.parametrize("count", [1, 2, 32])
def test_no_input_has_a_wider_range_of_log_masses(gamma: float, length: float, count: int) -> None:
    draw = np.random.default_rng(count)
    prototypes = draw.standard_normal((count, 8))
    prototypes *= length / np.linalg.norm(prototypes, axis=1, keepdims=True)
    unit = prototypes / np.maximum(1, np.linalg.norm(prototypes, axis=1, keepdims=True))
    random = draw.standard_normal((8, 4000))
    hard = np.concatenate((unit.T, -unit.T, 5 * random, 0.1 * random,
                           -10 * unit.mean(axis=0)[:, None], np.zeros((8, 1))), axis=1)  # fmt: skip
    found = log_mass_of(hard[None], prototypes, gamma)
    assert np.ptp(found) <= log_mass_range(gamma, prototypes) + 1e-9
    assert log_mass_range(gamma, prototypes) <= log_mass_range(gamma) == 2 * gamma


def test_prototypes_that_are_apart_narrow_the_range() -> None:
    prototypes = np.random.default_rng(0).standard_normal((64, 512))
    assert log_mass_range(20.0, prototypes) < 27


@pytest.mark.parametrize(
    ("gamma", "steps"),
    [(0.1, 6), (5, 6), (5.1, 12), (20, 12), (50, 14), (100, 16), (200, 18), (900, 24)],
)
def test_newton_steps_by_entropy_weight(gamma: float, steps: int) -> None:
    assert newton_steps(gamma) == steps


def test_what_float32_cannot_keep_is_refused_in_one_line() -> None:
    check_reachable(7e-5, 1e-4, 200.0)
    with pytest.raises(GspDeployError, match="pass --tolerance 4e-4") as caught:
        check_reachable(2.5e-4, 1e-4, 1000.0)
    assert "at entropy weight 1000 float32 keeps the weights within 3.3e-04" in str(caught.value)
    assert "\n" not in str(caught.value)
