"""An answer's own error: the identity and the bound behind it, and bad input."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from gsp_deploy import BaselineConfig, GeneralizedSumPooling, GSPConfig
from gsp_deploy.layers import BaselinePooling
from gsp_deploy.layers.residual import embedding_bound, weight_residual
from gsp_deploy.reference import exact_weights

POOLINGS = ("gap", "gmp", "gem")


def layer_of(**settings: object) -> GeneralizedSumPooling:
    torch.manual_seed(0)
    config = GSPConfig(6, 8, 5, entropy_weight=20.0, **settings)
    return GeneralizedSumPooling(config).eval()


@pytest.mark.parametrize("steps", [1, 2, 3, 5, 8])
def test_the_residual_is_the_mean_absolute_error_of_the_weights(steps: int) -> None:
    layer = layer_of(solver="fixed-point", iterations=steps).double()
    features = torch.randn(16, 6, 4, 4, dtype=torch.float64)
    with torch.no_grad():
        out = layer(features)
        log_mass = layer.scores(features).logsumexp(1).flatten(1).numpy()
    exact = exact_weights(log_mass, layer.config.transport_ratio)
    error = np.abs(out.weights.flatten(1).numpy() - exact).mean(axis=1)
    np.testing.assert_allclose(out.residual.numpy(), error, rtol=1e-6, atol=1e-12)
    if steps == 1:
        assert error.max() > 0.01


@pytest.mark.parametrize("max_residual", [False, True])
@pytest.mark.parametrize("normalize", [False, True])
@pytest.mark.parametrize("steps", [3, 5, 8])
def test_no_embedding_is_farther_off_than_its_bound(
    steps: int, normalize: bool, max_residual: bool
) -> None:
    layer = layer_of(
        solver="fixed-point", iterations=steps, max_residual=max_residual, normalize=normalize
    ).double()
    exact = GeneralizedSumPooling(
        dataclasses.replace(layer.config, solver="newton", iterations=60)
    ).double()
    exact.load_state_dict(layer.state_dict())
    features = torch.randn(200, 6, 4, 4, dtype=torch.float64)
    with torch.no_grad():
        out, wanted = layer(features), exact(features).embedding
    distance = 1 - torch.nn.functional.cosine_similarity(out.embedding, wanted)
    proven = out.embedding_bound < 1
    assert proven.any()
    assert (distance <= out.embedding_bound.square() + 1e-14)[proven].all()
    if not normalize:
        error = (out.embedding - wanted).norm(dim=1) / out.embedding.norm(dim=1)
        assert (error <= out.embedding_bound + 1e-14).all()


def test_one_location_that_takes_all_of_the_error_reaches_the_bound() -> None:
    # One long location with the whole error in its weight, and many at the origin.
    weights = torch.tensor([[1.5, 1.0, 1.0, 1.0]], dtype=torch.float64)
    maps = torch.zeros(1, 2, 4, dtype=torch.float64)
    maps[0, 0, 0] = 3.0
    pooled, exact = (maps * weights[:, None]).mean(dim=2), maps.mean(dim=2)
    bound = embedding_bound(weight_residual(weights), maps, pooled)
    assert bound.item() == pytest.approx(((pooled - exact).norm() / pooled.norm()).item())


def test_pooled_vectors_of_no_length_have_a_bound_that_says_nothing() -> None:
    bound = embedding_bound(torch.tensor([1e-6]), torch.ones(1, 3, 4), torch.zeros(1, 3))
    assert bound.item() >= 1


@pytest.mark.parametrize("pooling", POOLINGS)
def test_only_average_pooling_bounds_its_embedding(pooling: str) -> None:
    out = layer_of(pooling=pooling)(torch.randn(3, 6, 2, 2))
    assert out.residual.shape == (3,)
    assert not out.residual.requires_grad
    assert (out.embedding_bound < 1).all() == (pooling == "gap")
    if pooling != "gap":
        assert (out.embedding_bound == 2).all()  # no two vectors are farther apart


def test_a_ratio_of_one_has_nothing_to_solve() -> None:
    out = layer_of(transport_ratio=1.0)(torch.randn(3, 6, 2, 2))
    assert torch.equal(out.residual, torch.zeros(3))
    assert torch.equal(out.embedding_bound, torch.zeros(3))


def test_a_baseline_has_no_residual() -> None:
    out = BaselinePooling(BaselineConfig(6, 8))(torch.randn(3, 6, 2, 2))
    assert out.residual is None
    assert out.embedding_bound is None


@pytest.mark.parametrize("pooling", POOLINGS)
@pytest.mark.parametrize("solver", ["newton", "fixed-point"])
@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_a_bad_image_spoils_itself_alone(pooling: str, solver: str, bad: float) -> None:
    layer = layer_of(pooling=pooling, solver=solver)
    features = torch.randn(4, 6, 3, 3)
    features[2, 1, 0, 2] = bad
    with torch.no_grad():
        together = layer(features)
        for index in range(4):
            alone = layer(features[index : index + 1])
            for name, value in together._asdict().items():
                if value is not None:
                    torch.testing.assert_close(
                        value[index : index + 1], getattr(alone, name), equal_nan=True
                    )
    is_bad = torch.arange(4) == 2
    assert torch.equal(together.residual.isnan(), is_bad)
    assert torch.equal(together.weights.flatten(1).isnan().all(1), is_bad)
    assert torch.isfinite(together.embedding[~is_bad]).all()


@pytest.mark.parametrize("pooling", POOLINGS)
@pytest.mark.parametrize("value", [0.0, 3.0, -2.0])
def test_one_location_and_constant_maps_have_weights_of_one(pooling: str, value: float) -> None:
    layer = layer_of(pooling=pooling)
    for size in (1, 4):
        with torch.no_grad():
            out = layer(torch.full((2, 6, size, size), value))
        torch.testing.assert_close(out.weights, torch.ones(2, size, size))
        assert out.residual.max() < 1e-6
        assert torch.isfinite(out.embedding).all()
