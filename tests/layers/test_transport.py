"""The solvers against an independent oracle: bisection in float64 numpy."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gsp_deploy import GSPConfig
from gsp_deploy.layers.residual import weight_residual
from gsp_deploy.layers.transport import (
    TransportProblem,
    mixing_weights,
    solve_log_scale,
)
from gsp_deploy.reference import exact_weights

LOCATIONS = 49


def newton(ratio: float, steps: int = 20) -> TransportProblem:
    return TransportProblem(ratio, "newton", steps, ratio)


def fixed_point(ratio: float, steps: int = 100) -> TransportProblem:
    return TransportProblem(ratio, "fixed-point", steps, ratio)


def adversarial(gamma: float) -> dict[str, np.ndarray]:
    """Log-masses that are hard for a root search; distances lie in [0, 2]."""
    draw = np.random.default_rng(0)
    outlier = np.full((1, LOCATIONS), -2 * gamma)
    outlier[0, 0] = 0
    bimodal = np.where(np.arange(LOCATIONS) < np.arange(LOCATIONS)[:, None], -2 * gamma, 0.0)
    return {
        "random": -gamma * draw.uniform(0, 2, (256, LOCATIONS)),
        "narrow": -gamma * draw.normal(1, 0.1, (256, LOCATIONS)).clip(0, 2),
        "constant": np.full((1, LOCATIONS), -1.3 * gamma),
        "one attractive outlier": outlier,
        "one repellent outlier": -2 * gamma - outlier,
        "bimodal": bimodal,
        "three clusters": -gamma * draw.integers(0, 3, (256, 30)),
        "single location": -gamma * draw.uniform(0, 2, (8, 1)),
    }


@pytest.mark.parametrize("gamma", [0.1, 1, 5, 20, 50])
@pytest.mark.parametrize("ratio", [0.01, 0.1, 0.3, 0.5, 0.9, 0.99])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_newton_finds_the_exact_root(gamma: float, ratio: float, dtype: torch.dtype) -> None:
    for name, log_mass in adversarial(gamma).items():
        given_mass = torch.from_numpy(log_mass).to(dtype)
        weights = mixing_weights(given_mass, newton(ratio))
        exact = exact_weights(given_mass.numpy(), ratio)
        np.testing.assert_allclose(weights.numpy(), exact, rtol=1e-6, atol=1e-6, err_msg=name)


def test_newton_does_not_cycle_where_accepting_any_step_inside_the_bracket_did() -> None:
    draw = np.random.default_rng(1)
    for gamma, ratio in ((20, 0.3), (50, 0.9), (200, 0.99)):
        log_mass = -gamma * draw.uniform(0, 2, (20_000, LOCATIONS))
        weights = mixing_weights(torch.from_numpy(log_mass), newton(ratio, steps=16))
        np.testing.assert_allclose(weights.numpy(), exact_weights(log_mass, ratio), atol=1e-6)


@pytest.mark.parametrize(("gamma", "ratio", "steps"), [(5, 0.3, 4), (5, 0.5, 4), (5, 0.9, 5)])
def test_newton_needs_few_steps_on_ordinary_images(gamma: float, ratio: float, steps: int) -> None:
    log_mass = adversarial(gamma)["narrow"]
    weights = mixing_weights(torch.from_numpy(log_mass), newton(ratio, steps))
    np.testing.assert_allclose(weights.numpy(), exact_weights(log_mass, ratio), atol=1e-7)


def test_fixed_point_is_the_papers_iteration() -> None:
    """The plain formulation of the paper, p = q / (1 + t s) and t = mu / sum p s, in float64."""
    log_mass = torch.from_numpy(adversarial(5)["random"])
    for steps in (1, 5, 100):
        mass, scale = log_mass.exp(), torch.full((len(log_mass), 1), 0.3, dtype=torch.float64)
        for _ in range(steps):
            residual = (1 / LOCATIONS) / (1 + scale * mass)
            scale = 0.3 / (residual * mass).sum(1, keepdim=True)
        residual = (1 / LOCATIONS) / (1 + scale * mass)
        expected = (1 - LOCATIONS * residual) / 0.3
        weights = mixing_weights(log_mass, fixed_point(0.3, steps))
        torch.testing.assert_close(weights, expected, rtol=1e-12, atol=1e-12)


def test_fixed_point_survives_masses_that_underflow() -> None:
    log_mass = torch.full((1, LOCATIONS), -2000.0)
    log_mass[0, 0] = -1990.0
    weights = mixing_weights(log_mass, fixed_point(0.3))
    np.testing.assert_allclose(
        weights.numpy(), exact_weights(log_mass.numpy(), 0.3), rtol=1e-5, atol=1e-6
    )


@pytest.mark.parametrize("problem", [newton(0.3), fixed_point(0.3)])
def test_the_solver_is_the_same_in_any_order_of_locations(problem: TransportProblem) -> None:
    log_mass = torch.from_numpy(adversarial(5)["random"])
    order = torch.randperm(LOCATIONS, generator=torch.Generator().manual_seed(0))
    shuffled = mixing_weights(log_mass[:, order], problem)
    torch.testing.assert_close(shuffled, mixing_weights(log_mass, problem)[:, order])


def test_shifting_the_log_masses_changes_nothing() -> None:
    log_mass = torch.from_numpy(adversarial(5)["random"])
    torch.testing.assert_close(
        mixing_weights(log_mass + 17, newton(0.3)), mixing_weights(log_mass, newton(0.3))
    )


def test_a_ratio_of_one_keeps_everything_exactly() -> None:
    log_mass = torch.randn(3, 5, requires_grad=True)
    for problem in (newton(1.0), fixed_point(1.0)):
        assert torch.equal(mixing_weights(log_mass, problem), torch.ones(3, 5))


def test_marginal_error_shows_convergence() -> None:
    log_mass = torch.from_numpy(adversarial(20)["random"])
    assert weight_residual(mixing_weights(log_mass, newton(0.3))).max() < 1e-9
    assert weight_residual(mixing_weights(log_mass, fixed_point(0.3, 3))).max() > 1e-2


@pytest.mark.parametrize("make", [newton, fixed_point])
@pytest.mark.parametrize("gamma", [0.1, 5.0])
def test_the_gradient_is_that_of_the_root(make, gamma: float) -> None:
    log_mass = gamma * torch.rand(3, 7, dtype=torch.float64)
    problem = make(0.4, 400)
    assert torch.autograd.gradcheck(
        lambda x: mixing_weights(x, problem), log_mass.requires_grad_(), atol=1e-7
    )


@pytest.mark.parametrize("solver", ["newton", "certified"])
@pytest.mark.parametrize("lowest", [-400.0, -2000.0])  # the slopes are tiny, and exactly 0
def test_saturated_locations_give_a_finite_gradient(lowest: float, solver: str) -> None:
    log_mass = torch.zeros(1, 4, dtype=torch.float64)
    log_mass[0, :2] = lowest  # half kept, half not: every scale in between is a root
    log_mass.requires_grad_()
    problem = TransportProblem.of(GSPConfig(4, transport_ratio=0.5, solver=solver))
    weights = mixing_weights(log_mass, problem)
    weights.square().sum().backward()
    torch.testing.assert_close(weights, torch.tensor([[0.0, 0, 2, 2]], dtype=torch.float64))
    assert log_mass.grad is not None
    assert torch.isfinite(log_mass.grad).all()


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.floats(-400, 5), min_size=1, max_size=30),
    st.floats(0.01, 0.99),
    st.sampled_from(["newton", "fixed-point"]),
)
def test_weights_are_always_finite_and_in_range(values, ratio, solver) -> None:
    problem = TransportProblem(ratio, solver, 20, ratio)
    weights = mixing_weights(torch.tensor([values]), problem)
    assert torch.isfinite(weights).all()
    assert (weights >= 0).all()
    assert (weights <= 1 / ratio + 1e-5).all()
    if solver == "newton":
        assert weight_residual(weights).max() < 1e-5


def test_the_scale_comes_in_the_precision_of_its_input() -> None:
    for dtype in (torch.float32, torch.float64):
        assert solve_log_scale(torch.randn(2, 3, dtype=dtype), newton(0.3)).dtype == dtype


def test_the_problem_is_read_off_the_config() -> None:
    config = GSPConfig(in_channels=4, transport_ratio=0.2, solver="newton")
    assert TransportProblem.of(config) == TransportProblem(0.2, "newton", 20, 0.2)
    tensorflow = GSPConfig(in_channels=4, transport_ratio=0.2, iterations=10, initial_scale=1.0)
    assert TransportProblem.of(tensorflow) == TransportProblem(0.2, "fixed-point", 10, 1.0)
