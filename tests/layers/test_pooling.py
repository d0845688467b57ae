"""The GSP layer against the authors' layers, and against the laws that it must obey."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gsp_deploy import BaselineConfig, GeneralizedSumPooling, GSPConfig
from gsp_deploy.errors import ConfigError, UsageError
from gsp_deploy.layers import BaselinePooling
from gsp_deploy.layers.costs import prototype_costs
from gsp_deploy.layers.pooling import k_centre

GOLDEN = sorted((Path(__file__).parents[1] / "golden").glob("pytorch_*.npz"))
MODES = {"gap": "gap", "gmp": "gmp", "gmeanp": "gem"}
RELATIVE = 1e-5


def relative_error(found: torch.Tensor, expected: np.ndarray) -> float:
    array = found.detach().numpy().reshape(expected.shape)
    return float(np.abs(array - expected).max() / np.abs(expected).max())


def load_case(path: Path, **settings: object) -> tuple[GeneralizedSumPooling, dict]:
    case = dict(np.load(path))
    dim, channels = case["embed_weight"].shape
    config = GSPConfig(
        in_channels=channels,
        embedding_dim=dim,
        num_prototypes=len(case["prototypes"]),
        transport_ratio=float(case["transport_ratio"]),
        entropy_weight=float(case["entropy_weight"]),
        pooling=MODES[str(case["pooling"])],
        **{"iterations": int(case["iterations"]), **settings},
    )
    layer = GeneralizedSumPooling(config)
    with torch.no_grad():
        layer.embed.weight.copy_(torch.from_numpy(case["embed_weight"]))
        layer.embed.bias.copy_(torch.from_numpy(case["embed_bias"]))
        layer.prototypes.copy_(torch.from_numpy(case["prototypes"]))
    return layer, case


@pytest.mark.parametrize("path", GOLDEN, ids=lambda path: path.stem)
def test_forward_equals_the_authors_pytorch_layer(path: Path) -> None:
    layer, case = load_case(path)
    out = layer(torch.from_numpy(case["features"]))
    assert relative_error(out.weights, case["weights"]) < RELATIVE
    assert relative_error(out.embedding, case["embedding"]) < RELATIVE
    assert relative_error(out.attributes, case["attributes"]) < RELATIVE


@pytest.mark.parametrize("solver", ["fixed-point", "newton"])
@pytest.mark.parametrize(
    "path", [p for p in GOLDEN if "_k100" in p.stem], ids=lambda path: path.stem
)
def test_gradients_equal_the_authors_pytorch_layer(path: Path, solver: str) -> None:
    layer, case = load_case(path, solver=solver)
    features = torch.from_numpy(case["features"]).requires_grad_()
    out = layer(features)
    loss = (out.embedding * torch.from_numpy(case["cotangent_embedding"])).sum()
    loss = loss + (out.attributes * torch.from_numpy(case["cotangent_attributes"])).sum()
    loss.backward()
    assert relative_error(features.grad, case["grad_features"]) < RELATIVE
    assert relative_error(layer.prototypes.grad, case["grad_prototypes"]) < RELATIVE
    assert relative_error(layer.embed.weight.grad, case["grad_embed_weight"]) < RELATIVE
    assert relative_error(layer.embed.bias.grad, case["grad_embed_bias"]) < RELATIVE


@pytest.mark.parametrize("name", ["gamma5_k100", "gamma1_k10"])
def test_equals_the_authors_tensorflow_layer(golden: Path, name: str) -> None:
    vectors = np.load(golden / "tensorflow_layer.npz")
    case = {key.split("/")[1]: vectors[key] for key in vectors if key.startswith(name)}
    layer = GeneralizedSumPooling(
        GSPConfig(
            in_channels=32,
            embedding_dim=16,
            num_prototypes=8,
            transport_ratio=float(case["mu"]),
            entropy_weight=float(case["gamma"]),
            iterations=int(case["iters"]),
            normalize=False,
            bias=False,
            initial_scale=1.0,
        )
    )
    with torch.no_grad():
        layer.embed.weight.copy_(torch.from_numpy(case["conv_kernel"][0, 0].T))
        layer.prototypes.copy_(torch.from_numpy(case["support"]))
    features = torch.from_numpy(case["x"].transpose(0, 3, 1, 2).copy()).requires_grad_()
    out = layer(features)
    train = torch.cat([out.embedding, out.attributes], dim=1)
    assert relative_error(out.embedding, case["y_infer"]) < RELATIVE
    assert relative_error(train, case["y_train"]) < RELATIVE
    if name == "gamma5_k100":  # the other one is not converged: its gradient is another formula
        (train * torch.from_numpy(case["loss_w"])).sum().backward()
        assert (
            relative_error(features.grad.permute(0, 2, 3, 1).contiguous(), case["grad_x"])
            < RELATIVE
        )
        assert relative_error(layer.prototypes.grad, case["grad_support"]) < RELATIVE
        assert relative_error(layer.embed.weight.grad.T, case["grad_conv"]) < RELATIVE


def tiny(**settings: object) -> GeneralizedSumPooling:
    torch.manual_seed(0)
    sizes = {"in_channels": 5, "embedding_dim": 4, "num_prototypes": 3, **settings}
    return GeneralizedSumPooling(GSPConfig(**sizes))


@pytest.mark.parametrize("pooling", ["gap", "gmp", "gem"])
@pytest.mark.parametrize("max_residual", [False, True])
@pytest.mark.parametrize("solver", ["fixed-point", "newton"])
def test_gradcheck_of_the_whole_layer(pooling: str, max_residual: bool, solver: str) -> None:
    layer = tiny(pooling=pooling, max_residual=max_residual, solver=solver, iterations=200).double()
    features = torch.rand(2, 5, 2, 3, dtype=torch.float64) + 0.1
    parameters = tuple(layer.parameters())

    def outputs(features: torch.Tensor, *_: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return tuple(layer(features))

    assert torch.autograd.gradcheck(outputs, (features.requires_grad_(), *parameters), atol=1e-6)


@pytest.mark.parametrize("pooling", ["gap", "gmp", "gem", "gap+gmp"])
def test_gradcheck_of_the_baselines(pooling: str) -> None:
    layer = BaselinePooling(BaselineConfig(5, 4, pooling=pooling)).double()
    features = (torch.rand(2, 5, 2, 3, dtype=torch.float64) + 0.1).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: layer(x).embedding, (features,))


@pytest.mark.parametrize(("pooling", "baseline"), [("gap", "gap"), ("gmp", "gmp"), ("gem", "gem")])
def test_a_ratio_of_one_is_conventional_pooling(pooling: str, baseline: str) -> None:
    layer = tiny(pooling=pooling, transport_ratio=1.0)
    conventional = BaselinePooling(BaselineConfig(5, 4, pooling=baseline))
    conventional.load_state_dict(
        {name: value for name, value in layer.state_dict().items() if name != "prototypes"}
    )
    features = torch.randn(2, 5, 3, 3)
    torch.testing.assert_close(layer(features).embedding, conventional(features).embedding)
    assert torch.equal(layer(features).weights, torch.ones(2, 3, 3))


def test_the_max_residual_adds_the_embedded_maximum() -> None:
    plain, augmented = tiny(normalize=False), tiny(normalize=False, max_residual=True)
    features = torch.randn(2, 5, 3, 3)
    added = augmented(features).embedding - plain(features).embedding
    torch.testing.assert_close(added, features.amax((2, 3)) @ plain.embed.weight.T)


def test_outputs_have_their_shapes_and_sums() -> None:
    out = tiny()(torch.randn(2, 5, 3, 4))
    assert out.embedding.shape == (2, 4)
    assert out.attributes.shape == (2, 3)
    assert out.weights.shape == (2, 3, 4)
    torch.testing.assert_close(out.attributes.sum(1), torch.ones(2))
    torch.testing.assert_close(out.weights.mean((1, 2)), torch.ones(2))
    torch.testing.assert_close(out.embedding.norm(dim=1), torch.ones(2))


@pytest.mark.parametrize("pooling", ["gap", "gmp", "gem"])
def test_the_embedding_does_not_know_the_order_of_locations(pooling: str) -> None:
    layer, features = tiny(pooling=pooling), torch.randn(2, 5, 3, 4)
    flipped = layer(features.flip(2, 3))
    torch.testing.assert_close(flipped.embedding, layer(features).embedding)
    torch.testing.assert_close(flipped.weights.flip(1, 2), layer(features).weights)


def test_costs_equal_a_direct_distance() -> None:
    points, prototypes = torch.randn(2, 6, 9).double(), torch.randn(4, 6).double()
    ball = torch.nn.functional.normalize
    points[0] *= 0.1  # inside the unit ball: stays as it is
    inside = torch.where(points.norm(dim=1, keepdim=True) > 1, ball(points, dim=1), points)
    anchors = torch.where(prototypes.norm(dim=1, keepdim=True) > 1, ball(prototypes), prototypes)
    expected = (anchors[None, :, :, None] - inside[:, None]).norm(dim=2)
    torch.testing.assert_close(prototype_costs(points, prototypes), expected)


def test_a_location_on_a_prototype_costs_nothing_and_pulls_nothing() -> None:
    prototypes = torch.tensor([[0.5, 0.0], [0.0, 0.5]], requires_grad=True)
    points = prototypes.detach().T[None].clone().requires_grad_()
    costs = prototype_costs(points, prototypes)
    torch.testing.assert_close(costs.diagonal(dim1=1, dim2=2), torch.zeros(1, 2))
    costs.diagonal(dim1=1, dim2=2).sum().backward()
    assert torch.equal(points.grad, torch.zeros_like(points))
    assert torch.equal(prototypes.grad, torch.zeros_like(prototypes))


@pytest.mark.parametrize("pooling", ["gap", "gmp", "gem"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("scale", [0.0, 1e-8, 1.0, 1e4])
@pytest.mark.parametrize("gamma", [0.1, 200.0])
def test_no_nan_for_any_features(
    pooling: str, dtype: torch.dtype, scale: float, gamma: float
) -> None:
    layer = tiny(pooling=pooling, entropy_weight=gamma, max_residual=True)
    features = (torch.randn(2, 5, 3, 3) * scale).to(dtype).requires_grad_()
    low = dtype if dtype != torch.float32 else torch.bfloat16
    with torch.autocast("cpu", dtype=low, enabled=dtype != torch.float32):
        out = layer(features)
    (out.embedding.sum() + out.attributes.square().sum()).backward()
    for tensor in (*out, *(p.grad for p in layer.parameters())):
        assert torch.isfinite(tensor).all()
        assert tensor.dtype == torch.float32


@settings(max_examples=100, deadline=None)
@given(
    values=st.lists(st.floats(-1e4, 1e4, width=32), min_size=20, max_size=20),
    gamma=st.floats(0.01, 200),
    ratio=st.floats(0.01, 1.0),
    pooling=st.sampled_from(["gap", "gmp", "gem"]),
    solver=st.sampled_from(["fixed-point", "newton"]),
)
def test_any_finite_input_gives_finite_outputs_and_gradients(
    values, gamma, ratio, pooling, solver
) -> None:
    layer = tiny(
        pooling=pooling,
        entropy_weight=gamma,
        transport_ratio=ratio,
        solver=solver,
        iterations=15,
    )
    features = torch.tensor(values).reshape(1, 5, 2, 2).requires_grad_()
    out = layer(features)
    (out.embedding.sum() + out.attributes.square().sum()).backward()
    for tensor in (*out, features.grad, *(p.grad for p in layer.parameters())):
        assert torch.isfinite(tensor).all()


def test_a_large_power_does_not_overflow_the_generalised_mean() -> None:
    layer = tiny(pooling="gem", normalize=False)
    with torch.no_grad():
        layer.power.fill_(40.0)
    features = (torch.rand(2, 5, 3, 3) * 1e4).requires_grad_()
    out = layer(features).embedding
    out.sum().backward()
    assert torch.isfinite(out).all()
    assert torch.isfinite(layer.power.grad).all()


def test_prototypes_start_where_greedy_k_centre_puts_them(golden: Path) -> None:
    vectors = np.load(golden / "prototype_init.npz")
    weights, expected = vectors["class_weights"], vectors["prototypes"]
    layer = GeneralizedSumPooling(
        GSPConfig(in_channels=3, embedding_dim=weights.shape[1], num_prototypes=len(expected))
    )
    layer.initialize_prototypes(torch.from_numpy(weights))
    np.testing.assert_array_equal(layer.prototypes.detach().numpy(), expected)


def test_fewer_vectors_than_prototypes_leave_the_rest_alone() -> None:
    layer = tiny()
    before = layer.prototypes.detach().clone()
    layer.initialize_prototypes(torch.eye(4)[:2])
    assert torch.equal(layer.prototypes[:2].detach(), torch.eye(4)[:2])
    assert torch.equal(layer.prototypes[2].detach(), before[2])


def test_k_centre_covers_separated_clusters_first() -> None:
    centres = torch.tensor([[0.0, 0], [10, 0], [0, 10]])
    vectors = centres.repeat_interleave(5, 0) + 0.01 * torch.randn(15, 2)
    assert {index // 5 for index in k_centre(vectors, 3)} == {0, 1, 2}


@pytest.mark.parametrize("shape", [(2, 5, 3), (2, 4, 3, 3), (2, 5, 0, 3)])
def test_wrong_features_are_named(shape: tuple[int, ...]) -> None:
    with pytest.raises(UsageError, match=r"expected features of shape \(batch, 5, height, width\)"):
        tiny()(torch.zeros(shape))


def test_wrong_prototype_vectors_are_named() -> None:
    with pytest.raises(UsageError, match=r"\(K, 4\), got \(2, 3\)"):
        tiny().initialize_prototypes(torch.zeros(2, 3))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("transport_ratio", 1.4),
        ("transport_ratio", 0.0),
        ("transport_ratio", float("nan")),
        ("entropy_weight", -1.0),
        ("iterations", 0),
        ("solver", "sinkhorn"),
        ("pooling", "gap+gmp"),
        ("bias", 1),
        ("num_prototypes", 2.5),
    ],
)
def test_an_invalid_config_cannot_be_made(field: str, value: object) -> None:
    with pytest.raises(ConfigError, match=field):
        GSPConfig(**{"in_channels": 4, field: value})
