"""The certified solver of the layer: float64, against a bisection, at every setting."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gsp_deploy import GeneralizedSumPooling, GSPConfig
from gsp_deploy.errors import ConfigError
from gsp_deploy.layers.residual import weight_residual
from gsp_deploy.layers.transport import TransportProblem, mixing_weights, solve_log_scale
from gsp_deploy.reference import exact_weights
from gsp_deploy.training.sections import GspSection, HeadSection, head_config


def problem(gamma: float, ratio: float) -> TransportProblem:
    config = GSPConfig(4, entropy_weight=gamma, transport_ratio=ratio, solver="certified")
    return TransportProblem.of(config)


@settings(max_examples=300, deadline=None)
@given(
    st.sampled_from([0.1, 1.0, 5.0, 20.0, 50.0, 100.0, 200.0]),
    st.floats(0.01, 0.99),
    st.sampled_from([1, 2, 3, 49, 4096]),
    st.integers(0, 2**32 - 1),
)
def test_the_layer_finds_the_exact_weights(gamma, ratio, locations, seed) -> None:
    draw = np.random.default_rng(seed)
    values = -2 * gamma * draw.random((6, int(draw.integers(1, 6))))
    values[0], values[1, 0] = values[0, 0], 0
    log_mass = np.take_along_axis(values, draw.integers(0, values.shape[1], (6, locations)), axis=1)
    found = mixing_weights(torch.from_numpy(log_mass), problem(gamma, ratio))
    exact = exact_weights(log_mass, ratio)
    # A mean in float64 determines the share of a location among N to some N 1e-16.
    tolerance = (1e-10 + 1e-15 * locations * gamma) / ratio
    np.testing.assert_allclose(found.numpy(), exact, atol=tolerance, rtol=0)
    assert weight_residual(found).max() < 1e-12 * locations / ratio + 1e-12


def test_float32_solving_stays_within_rounding() -> None:
    """Devices without float64 solve in float32."""
    draw = np.random.default_rng(0)
    log_mass = torch.from_numpy(-40 * draw.random((64, 49))).float()
    beta = solve_log_scale(log_mass, problem(20.0, 0.3))
    found = (beta + log_mass).sigmoid() / 0.3
    exact = exact_weights(log_mass.numpy(), 0.3)
    assert np.abs(found.numpy() - exact).max() < 3e-5


def test_the_sweep_ends_in_the_middle_of_the_roots_cell() -> None:
    log_mass = -100 * torch.rand(500, 7, dtype=torch.float64)
    log_mass[:, :2] = torch.tensor([0.0, -100.0])
    swept = replace(problem(50.0, 0.3), points=9, steps=0)
    distance = solve_log_scale(log_mass, swept) - solve_log_scale(log_mass, problem(50.0, 0.3))
    half = 100 / 10 / 2
    assert 0.95 * half < distance.abs().max() <= half * (1 + 1e-9)


def test_no_step_is_longer_than_half_a_cell() -> None:
    """Between two groups of locations far apart the equation is flat, and its slope rounding."""
    log_mass = torch.tensor([[0.0, 0.0, -200.0]], dtype=torch.float64)
    flat = replace(problem(100.0, 2 / 3), points=999)
    before, after = (solve_log_scale(log_mass, replace(flat, steps=n)) for n in (0, 1))
    assert (after - before).abs().item() == pytest.approx(200 / 1000 / 2)


@pytest.mark.parametrize("gamma", [0.1, 5.0, 20.0])
def test_the_gradient_is_that_of_the_root(gamma: float) -> None:
    log_mass = gamma * torch.rand(3, 7, dtype=torch.float64)
    assert torch.autograd.gradcheck(
        lambda x: mixing_weights(x, problem(gamma, 0.4)), log_mass.requires_grad_(), atol=1e-7
    )


def test_nan_stays_with_its_image() -> None:
    log_mass = -20 * torch.rand(3, 9, dtype=torch.float64)
    clean = mixing_weights(log_mass, problem(20.0, 0.3))
    log_mass[1, 4] = float("nan")
    found = mixing_weights(log_mass, problem(20.0, 0.3))
    assert found[1].isnan().all()
    assert torch.equal(found[[0, 2]], clean[[0, 2]])


def test_a_compiled_layer_gives_the_same() -> None:
    torch.manual_seed(0)
    layer = GeneralizedSumPooling(GSPConfig(8, 6, 4, entropy_weight=20.0)).eval()
    features = torch.randn(2, 8, 3, 3)
    compiled = torch.compile(layer, backend="eager")
    torch.testing.assert_close(compiled(features).embedding, layer(features).embedding)


def test_one_rule_decides_the_solver_for_layers_and_recipes() -> None:
    """Exact unless a number of steps is asked for, which without a solver is the paper's."""
    for given_settings, solver, steps in [
        ({}, "certified", 3),
        ({"iterations": 7}, "fixed-point", 7),
        ({"solver": "fixed-point"}, "fixed-point", 100),
        ({"solver": "newton"}, "newton", 20),
        ({"solver": "certified", "iterations": 4}, "certified", 4),
    ]:
        config = GSPConfig(4, **given_settings)
        assert (config.solver, config.steps) == (solver, steps)
        head = head_config(HeadSection(), GspSection(**given_settings), 4)
        assert (head.solver, head.steps) == (solver, steps)


def test_one_certified_step_is_refused() -> None:
    with pytest.raises(ConfigError, match="iterations must be at least 2 with solver certified"):
        GSPConfig(4, solver="certified", iterations=1)


def test_fewer_steps_sweep_more_points() -> None:
    points = [
        TransportProblem.of(GSPConfig(4, solver="certified", iterations=n)).points
        for n in (2, 3, 4)
    ]
    assert points[0] > points[1] > points[2] > 0
