"""Costs in float32 against float64, at the hardest places: on prototypes and next to them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from near_prototypes import near_prototypes

from gsp_deploy.cost_bounds import cost_error_bound, log_mass_error_bound
from gsp_deploy.layers.costs import (
    inside_unit_ball,
    prototype_costs,
    prototype_gradient,
    unit_prototypes,
)
from gsp_deploy.reference import exact_weights, log_mass_of


def exact_costs(points: np.ndarray, prototypes: np.ndarray) -> np.ndarray:
    inside = inside_unit_ball(torch.from_numpy(points).double(), dim=1)
    anchors = inside_unit_ball(torch.from_numpy(prototypes).double(), dim=1)
    return (anchors[None, :, :, None] - inside[:, None]).norm(dim=2).numpy()


def costs_in_float32(points: np.ndarray, prototypes: np.ndarray) -> np.ndarray:
    return prototype_costs(torch.from_numpy(points), torch.from_numpy(prototypes)).numpy()


def costs_from_squares(points: np.ndarray, prototypes: np.ndarray) -> np.ndarray:
    """The formula that cancels: ||p||^2 + ||f||^2 - 2 p.f."""
    inside = inside_unit_ball(torch.from_numpy(points), dim=1)
    anchors = inside_unit_ball(torch.from_numpy(prototypes), dim=1)
    squared = anchors.square().sum(1)[:, None] + inside.square().sum(1, keepdim=True)
    return (squared - 2 * anchors @ inside).clamp(min=0).sqrt().numpy()


@pytest.mark.parametrize("gamma", [5.0, 20.0, 50.0, 100.0])
@pytest.mark.parametrize("share", [0.05, 0.3, 0.8])
def test_weights_near_prototypes_are_exact_to_a_tenth_of_the_tolerance(share, gamma) -> None:
    prototypes, points = near_prototypes(int(100 * share), share)
    scores = -gamma * prototype_costs(torch.from_numpy(points), torch.from_numpy(prototypes))
    log_mass, exact = scores.logsumexp(1).numpy(), log_mass_of(points, prototypes, gamma)
    assert np.abs(log_mass - exact).max() < log_mass_error_bound(gamma, prototypes)
    expected = exact_weights(exact, 0.3)
    error = np.abs(exact_weights(log_mass, 0.3) - expected).max(axis=1)
    assert (error / np.ptp(expected, axis=1)).max() < 1e-5


def test_the_bound_holds_near_prototypes_and_squares_that_cancel_break_it() -> None:
    prototypes, points = near_prototypes(0, 0.5)
    exact, bound = exact_costs(points, prototypes), cost_error_bound(prototypes)
    assert np.abs(costs_in_float32(points, prototypes) - exact).max() < bound
    assert np.abs(costs_from_squares(points, prototypes) - exact).max() > 5 * bound


@settings(max_examples=150, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    dim=st.sampled_from([1, 2, 7, 64]),
    count=st.sampled_from([1, 2, 9]),
    length=st.sampled_from([0.01, 0.9, 1.0, 30.0]),
    apart=st.floats(-9, 0.5),
    twins=st.sampled_from(["none", "equal", "near"]),
)
def test_the_bound_holds_for_any_prototypes_and_distances(
    seed, dim, count, length, apart, twins
) -> None:
    draw = np.random.default_rng(seed)
    prototypes = draw.standard_normal((count, dim)) / np.sqrt(dim) * length
    if count > 1 and twins != "none":
        moved = 10**apart * length * draw.standard_normal(dim) / np.sqrt(dim)
        prototypes[1] = prototypes[0] + (moved if twins == "near" else 0)
    towards = prototypes[draw.integers(count, size=20)] * 10 ** draw.uniform(-1, 2, (20, 1))
    noise = 10 ** draw.uniform(-9, 0, (20, 1)) * length * draw.standard_normal((20, dim))
    points = np.vstack([towards + noise, prototypes, np.zeros((1, dim))]).T[None]
    points, prototypes = points.astype(np.float32), prototypes.astype(np.float32)
    error = np.abs(costs_in_float32(points, prototypes) - exact_costs(points, prototypes))
    assert error.max() <= cost_error_bound(prototypes)


@pytest.mark.parametrize("scale", [1e-3, 0.5, 1.0, 50.0])
def test_prototypes_that_start_from_embeddings_are_at_distance_zero(scale: float) -> None:
    """Their squared distance rounds to either side of 0, whose root was NaN."""
    points = torch.randn(4, 33, 50) * scale
    costs = prototype_costs(points, points[0].T.contiguous())
    assert torch.isfinite(costs).all()
    assert costs[0].diagonal().abs().max() < 1e-6


def test_equal_prototypes_have_equal_costs() -> None:
    prototypes, points = near_prototypes(1, 0.8)
    prototypes[7] = prototypes[19] = prototypes[3]
    costs = costs_in_float32(points, prototypes)
    np.testing.assert_array_equal(costs[:, 7], costs[:, 3])
    np.testing.assert_array_equal(costs[:, 19], costs[:, 3])
    assert np.abs(costs - exact_costs(points, prototypes)).max() < cost_error_bound(prototypes)


def test_zero_features_are_as_far_as_the_prototypes_are_long() -> None:
    prototypes = torch.randn(5, 8)
    prototypes[2] *= 0.01
    expected = prototypes.norm(dim=1).clamp(max=1)[None, :, None].expand(2, 5, 3)
    torch.testing.assert_close(prototype_costs(torch.zeros(2, 8, 3), prototypes), expected)


def test_gradients_near_prototypes_are_those_of_float64() -> None:
    prototypes, points = near_prototypes(2, 0.8, cosines=(0.3, 0.9, 0.99, 0.9999))
    found = [
        gradients(torch.from_numpy(points).to(dtype), torch.from_numpy(prototypes).to(dtype))
        for dtype in (torch.float32, torch.float64)
    ]
    for low, high in zip(*found, strict=True):
        assert ((low - high).norm(dim=1) / high.norm(dim=1)).max() < 2e-4


def gradients(points: torch.Tensor, prototypes: torch.Tensor) -> tuple[torch.Tensor, ...]:
    inputs = points.requires_grad_(), prototypes.requires_grad_()
    return torch.autograd.grad((-5 * prototype_costs(*inputs)).logsumexp(1).sum(), inputs)


@pytest.mark.parametrize("distance", [0.0, 1e-12, 1e-9, 1e-7, 1e-5, 1e-3])
def test_no_cost_pulls_harder_than_one(distance: float) -> None:
    """A distance is 1-Lipschitz; 1 / distance must not blow rounding up where it is tiny."""
    torch.manual_seed(0)
    prototypes = 0.5 * torch.nn.functional.normalize(torch.randn(6, 32), dim=1)
    step = torch.nn.functional.normalize(torch.randn(32), dim=0)
    points = (prototypes[0] + distance * step)[None, :, None].requires_grad_()
    (pull,) = torch.autograd.grad(prototype_costs(points, prototypes)[0, 0].sum(), points)
    assert pull.norm() < 1.01
    if distance >= 1e-3:
        torch.testing.assert_close(pull[0, :, 0], step, atol=1e-3, rtol=0)


@pytest.mark.parametrize("length", [0.0, 0.3, 0.999, 1.001, 7.0])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16])
def test_the_gradient_of_prototypes_is_that_of_their_normalisation(
    length: float, dtype: torch.dtype
) -> None:
    """Inside the ball nothing changes; outside, the radial part drops out."""
    torch.manual_seed(0)
    others = 5 * torch.randn(3, 6, dtype=torch.float64)
    first = length * torch.nn.functional.normalize(torch.randn(1, 6, dtype=torch.float64))
    prototypes = torch.cat([first, others]).to(dtype)
    gradient = torch.randn(4, 6, dtype=torch.float64)
    exact = prototypes.double().requires_grad_()
    (expected,) = torch.autograd.grad(inside_unit_ball(exact, dim=1), exact, gradient)
    found = prototype_gradient(gradient, prototypes)
    assert found.dtype == dtype
    torch.testing.assert_close(found, expected.to(dtype))
    inside = unit_prototypes(prototypes, torch.float32)
    torch.testing.assert_close(inside, inside_unit_ball(exact, dim=1).float())


@pytest.mark.parametrize("distance", [1e-5, 1e-3])
def test_a_gradient_falls_linearly_where_the_direction_is_rounding(distance: float) -> None:
    """Below the root of the machine epsilon, 3.5e-4 in float32, as in Huber's smoothing."""
    prototypes = torch.tensor([[0.5, 0.0, 0.0]])
    points = torch.tensor([[[0.5], [distance], [0.0]]]).requires_grad_()
    (pull,) = torch.autograd.grad(prototype_costs(points, prototypes).sum(), points)
    floor = torch.finfo(torch.float32).eps ** 0.5
    assert pull.norm().item() == pytest.approx(min(1, distance / floor), rel=1e-3)


def test_gradcheck_next_to_a_prototype() -> None:
    prototypes = torch.randn(3, 4, dtype=torch.float64)
    near = prototypes[1] * 3 + 1e-3 * torch.randn(4, dtype=torch.float64)
    points = torch.stack([near, 0.1 * near, -near], dim=1)[None]
    inputs = points.requires_grad_(), prototypes.requires_grad_()
    assert torch.autograd.gradcheck(prototype_costs, inputs, eps=1e-8, atol=1e-5)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_a_bad_location_spoils_no_other(bad: float) -> None:
    prototypes, points = near_prototypes(3, 0.5, images=3)
    expected = costs_in_float32(points, prototypes)
    points[1, 5, 17] = bad
    found = costs_in_float32(points, prototypes)
    assert np.isnan(found[1, :, 17]).all()
    found[1, :, 17] = expected[1, :, 17]
    np.testing.assert_array_equal(found, expected)


def test_autocast_leaves_the_costs_in_float32() -> None:
    from gsp_deploy import GeneralizedSumPooling, GSPConfig

    torch.manual_seed(0)
    layer = GeneralizedSumPooling(GSPConfig(16, 32, 8, entropy_weight=50.0))
    features = torch.randn(2, 16, 3, 3)
    with torch.no_grad():
        embeddings = layer._embed_locations(features.flatten(2))
        layer.initialize_prototypes(embeddings[0].T)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            under_autocast = layer.scores(features)
    assert under_autocast.dtype == torch.float32
    assert torch.equal(under_autocast, layer.scores(features))
