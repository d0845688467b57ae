"""The certified solver in float32 on ONNX Runtime, against inputs made to break its bound."""

from __future__ import annotations

from functools import cache

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gsp_deploy import EmbeddingModel, GSPConfig, ModelConfig
from gsp_deploy.bounds import DEFAULT_TOLERANCE, Sweep, sweep_for
from gsp_deploy.errors import GspDeployError
from gsp_deploy.export import Calibration, ExportOptions, export_onnx
from gsp_deploy.export.backbone import head_parameters
from gsp_deploy.export.calibration import default_calibration, features_near
from gsp_deploy.export.graph import GraphScope
from gsp_deploy.export.transport import SolverPlan, mixing_weights
from gsp_deploy.float32_bounds import SIGMOID_ERROR, SolverSetting, weight_error_bound
from gsp_deploy.reference import exact_weights, relative_weight_error

GAMMAS = (0.1, 1.0, 5.0, 20.0, 50.0, 100.0, 200.0)
RATIOS = (0.01, 0.1, 0.3, 0.5, 0.7, 0.9, 0.99)


@cache
def session(ratio: float, plan: SolverPlan) -> onnxruntime.InferenceSession:
    shape = ir.Shape(["batch", 1, 1, "locations"])
    log_mass = ir.Value(name="log_mass", shape=shape, type=ir.TensorType(ir.DataType.FLOAT))
    graph = ir.Graph([log_mass], [], nodes=[], opset_imports={"": 18}, name="solver")
    weights = mixing_weights(GraphScope(graph, "gsp"), log_mass, ratio, plan, 1.0)
    weights.shape, weights.dtype = shape, ir.DataType.FLOAT
    graph.outputs.append(weights)
    model = ir.to_proto(ir.Model(graph, ir_version=10))
    return onnxruntime.InferenceSession(model.SerializeToString())


def plan_for(gamma: float, sweep: Sweep | None = None) -> SolverPlan:
    chosen = sweep or sweep_for(2 * gamma, DEFAULT_TOLERANCE)
    return SolverPlan("certified", chosen.steps, chosen.points, 2 * gamma)


def solve(log_mass: np.ndarray, ratio: float, plan: SolverPlan) -> np.ndarray:
    given_mass = {"log_mass": log_mass[:, None, None].astype(np.float32)}
    return session(ratio, plan).run(None, given_mass)[0][:, 0, 0].astype(np.float64)


def groups(draw: np.random.Generator, gamma: float, locations: int, count: int) -> np.ndarray:
    """Return log-masses `(count, locations)` of two to five values each, 2 gamma apart at most."""
    kinds = int(draw.integers(2, 6))
    values = -2 * gamma * draw.random((count, kinds)) * draw.uniform(0.05, 1)
    if draw.random() < 0.4:
        values = -2 * gamma * draw.integers(0, 2, (count, kinds)).astype(float)
    which = draw.integers(0, kinds, (count, locations))
    if draw.random() < 0.5:  # most locations alike, a few apart
        which = np.where(
            np.arange(locations) < draw.integers(1, locations + 1, (count, 1)), 0, which
        )
    return np.take_along_axis(values, which, axis=1).astype(np.float32).astype(np.float64)


def bound(gamma: float, ratio: float, locations: int) -> float:
    sweep = sweep_for(2 * gamma, DEFAULT_TOLERANCE)
    return weight_error_bound(sweep, SolverSetting(ratio, 2 * gamma, 0.0, locations))


@settings(max_examples=200, deadline=None)
@given(
    st.sampled_from(GAMMAS),
    st.sampled_from(RATIOS),
    st.sampled_from([1, 2, 3, 16, 49, 196, 1024, 4096]),
    st.integers(0, 2**32 - 1),
)
def test_no_input_goes_beyond_the_stated_bound(gamma, ratio, locations, seed) -> None:
    log_mass = groups(np.random.default_rng(seed), gamma, locations, 20)
    found, exact = solve(log_mass, ratio, plan_for(gamma)), exact_weights(log_mass, ratio)
    assert np.abs(found - exact).max() <= bound(gamma, ratio, locations)
    if locations <= 196:
        assert relative_weight_error(found, exact, ratio).max() <= DEFAULT_TOLERANCE


def climb(gamma: float, ratio: float, locations: int, plan: SolverPlan, rounds: int) -> float:
    """Return the worst error over the spread that hill-climbing from random groups comes to."""
    draw = np.random.default_rng(int(10 * gamma) + locations)

    def errors(log_mass: np.ndarray) -> np.ndarray:
        exact = exact_weights(log_mass, ratio)
        return relative_weight_error(solve(log_mass, ratio, plan), exact, ratio)

    best = np.concatenate([groups(draw, gamma, locations, 16) for _ in range(4)])
    worst = errors(best)
    for turn in range(rounds):
        size = 2 * gamma * 10 ** draw.uniform(-4, 0)
        moved = np.where(draw.random(best.shape) < draw.choice([0.02, 0.3, 1.0]), 1, 0)
        by = draw.standard_normal(best.shape if turn % 2 else (len(best), 1))
        tried = np.clip(best + size * moved * by, -2 * gamma, 0).astype(np.float32)
        came = errors(tried.astype(np.float64))
        better = came > worst
        best[better], worst[better] = tried[better], came[better]
    return float(worst.max())


@pytest.mark.parametrize("locations", [2, 49])
@pytest.mark.parametrize("ratio", [0.1, 0.5])
@pytest.mark.parametrize("gamma", [5.0, 20.0, 100.0])
def test_hill_climbing_does_not_reach_the_tolerance(gamma, ratio, locations) -> None:
    assert climb(gamma, ratio, locations, plan_for(gamma), 60) <= DEFAULT_TOLERANCE


@pytest.mark.parametrize("gamma", [5.0, 20.0, 100.0])
def test_too_few_points_are_caught(gamma: float) -> None:
    enough = sweep_for(2 * gamma, DEFAULT_TOLERANCE)
    few = Sweep(enough.points // 4, enough.steps)
    assert few.method_error(2 * gamma) > DEFAULT_TOLERANCE
    assert climb(gamma, 0.3, 49, plan_for(gamma, few), 60) > DEFAULT_TOLERANCE


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_bad_image_spoils_its_own_weights_and_no_others(value: float) -> None:
    log_mass = groups(np.random.default_rng(0), 20.0, 49, 3)
    clean = solve(log_mass, 0.3, plan_for(20.0))
    log_mass[1, 7] = value
    found = solve(log_mass, 0.3, plan_for(20.0))
    assert np.isnan(found[1]).all()
    np.testing.assert_array_equal(found[[0, 2]], clean[[0, 2]])


@pytest.mark.parametrize("ratio", RATIOS)
@pytest.mark.parametrize(
    "log_mass", [np.full((2, 49), -31.7), np.array([[-3.0]]), np.zeros((1, 5))]
)
def test_alike_locations_all_weigh_one(ratio: float, log_mass: np.ndarray) -> None:
    found = solve(log_mass, ratio, plan_for(20.0))
    np.testing.assert_allclose(found, 1, atol=4 * SIGMOID_ERROR / ratio)


def head(gamma: float, ratio: float = 0.3, **settings: object) -> EmbeddingModel:
    config = GSPConfig(96, 64, 32, transport_ratio=ratio, entropy_weight=gamma, **settings)
    return EmbeddingModel(ModelConfig("features", config, None)).eval()


@pytest.mark.parametrize("gamma", [5.0, 20.0, 50.0, 100.0])
def test_the_manifest_states_a_bound_that_holds_near_prototypes(gamma: float, tmp_path) -> None:
    """D = 64, M = 32, 5 to 80 % of the locations at cosines of 0.3 to 1 to a prototype."""
    model = head(gamma)
    draw = np.random.default_rng(1)
    features = features_near(head_parameters(model.head), 40, 7, draw)
    calibration = Calibration(features, "features near prototypes", None)
    found = export_onnx(model, tmp_path / "m.onnx", None, calibration).manifest.certificate
    assert found.solver == "certified"
    assert found.guarantee is not None
    assert found.worst_weight_error <= found.guarantee.weight_error
    assert found.guarantee.solver_error < found.guarantee.weight_error
    assert found.guarantee.method_error <= DEFAULT_TOLERANCE / 4
    assert found.guarantee.locations == 256  # the head's size is open


def test_the_plan_follows_from_the_head_and_never_from_images(tmp_path) -> None:
    model = head(20.0)
    draw = np.random.default_rng(0)
    plans = set()
    for scale in (0.0, 1.0, 100.0):
        features = (scale * draw.standard_normal((3, 96, 7, 7))).astype(np.float32)
        calibration = Calibration(features, "features", None)
        found = export_onnx(model, tmp_path / "m.onnx", None, calibration).manifest.certificate
        plans.add((found.steps, found.grid_points, found.guarantee))
    assert len(plans) == 1


def test_own_steps_and_other_solvers_have_no_guarantee(tmp_path) -> None:
    for options in ({"iterations": 3}, {"solver": "newton"}, {"solver": "fixed-point"}):
        path = tmp_path / "m.onnx"
        found = export_onnx(head(5.0), path, ExportOptions(**options)).manifest.certificate
        assert found.guarantee is None
        assert found.guarantee_in_words == "none: measured on 32 images"


@pytest.mark.parametrize("settings", [{"pooling": "gap"}, {"pooling": "gmp"}, {"pooling": "gem"}])
@pytest.mark.parametrize("residual", [False, True])
def test_a_head_has_at_most_80_nodes(settings, residual, tmp_path) -> None:
    model = head(20.0, max_residual=residual, **settings)
    path = export_onnx(model, tmp_path / "m.onnx").path
    assert len(onnx.load(path).graph.node) <= 80


def test_an_entropy_weight_beyond_float32_is_refused_in_one_line(tmp_path) -> None:
    with pytest.raises(GspDeployError, match="float32 keeps the weights within") as caught:
        export_onnx(head(1e5), tmp_path / "m.onnx")
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_a_head_alone_is_measured_near_its_prototypes_too() -> None:
    model = head(20.0)
    parameters = head_parameters(model.head)
    found = default_calibration(model.config, 8, near=parameters)
    assert "near the prototypes" in found.source
    maps = found.inputs[1::2].reshape(4, 96, -1)
    embedded = np.einsum("dc,ncl->nld", parameters.embed_weight, maps)
    embedded += parameters.embed_bias if parameters.embed_bias is not None else 0
    unit = embedded / np.linalg.norm(embedded, axis=-1, keepdims=True)
    anchors = parameters.prototypes / np.linalg.norm(parameters.prototypes, axis=1, keepdims=True)
    nearest = (unit @ anchors.T).max(axis=-1)
    assert ((nearest > 0.7).mean(axis=1) > 0).all()
