"""The cost operators in float32 on ONNX Runtime, on prototypes and next to them."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest
from near_prototypes import near_prototypes

from gsp_deploy.cost_bounds import log_mass_error_bound
from gsp_deploy.export.costs import (
    PROTOTYPE_KERNEL,
    unit_prototypes,
    write_lengths,
    write_log_mass,
    write_scores,
)
from gsp_deploy.export.graph import HEAD_SCOPE, IR_VERSION, GraphScope
from gsp_deploy.export.trial_run import running
from gsp_deploy.reference import exact_weights, log_mass_of


def log_mass_in_onnx(points: np.ndarray, prototypes: np.ndarray, gamma: float) -> np.ndarray:
    """Return l `(B, N)` for embeddings `(B, D, N)` as the exported graph computes it."""
    shape = ir.Shape(["batch", points.shape[1], 1, "locations"])
    value = ir.Value(name="embeddings", shape=shape, type=ir.TensorType(ir.DataType.FLOAT))
    graph = ir.Graph([value], [], nodes=[], opset_imports={"": 18}, name="costs")
    scope = GraphScope(graph, HEAD_SCOPE)
    scores = write_scores(scope, value, write_lengths(scope, value), prototypes, gamma)
    found = write_log_mass(scope, scores, gamma)
    found.dtype, found.shape = ir.DataType.FLOAT, ir.Shape(["batch", 1, 1, "locations"])
    graph.outputs.append(found)
    with running(ir.Model(graph, ir_version=IR_VERSION)) as network:
        name = found.name or ""
        computed: np.ndarray = network.run(points[:, :, None], (name,))[name]
        return computed[:, 0, 0]


@pytest.mark.parametrize("gamma", [5.0, 20.0, 50.0, 100.0])
@pytest.mark.parametrize("share", [0.05, 0.3, 0.8])
def test_weights_near_prototypes_are_exact_to_a_fifth_of_the_tolerance(share, gamma) -> None:
    prototypes, points = near_prototypes(int(100 * share), share)
    log_mass = log_mass_in_onnx(points, prototypes, gamma)
    exact = log_mass_of(points, prototypes, gamma)
    assert np.abs(log_mass - exact).max() < log_mass_error_bound(gamma, prototypes)
    expected = exact_weights(exact, 0.3)
    error = np.abs(exact_weights(log_mass, 0.3) - expected).max(axis=1)
    assert (error / np.ptp(expected, axis=1)).max() < 2e-5


@pytest.mark.parametrize("apart", [0.0, 1e-6, 1e-3, 0.1])
def test_the_bound_holds_for_twins_among_the_prototypes(apart: float) -> None:
    prototypes, points = near_prototypes(5, 0.8)
    prototypes[4] = prototypes[11]
    prototypes[4, 0] += apart * np.linalg.norm(prototypes[11])
    error = np.abs(log_mass_in_onnx(points, prototypes, 20.0) - log_mass_of(points, prototypes, 20))
    assert error.max() < log_mass_error_bound(20.0, prototypes)
    if apart == 0:
        assert error.max() < 1e-5


@pytest.mark.parametrize("scale", [0.0, 1e-3, 0.1])
def test_vectors_inside_the_unit_ball_stay_as_they_are(scale: float) -> None:
    prototypes, points = near_prototypes(6, 0.5)
    prototypes, points = prototypes * np.float32(0.05), points * np.float32(scale)
    error = np.abs(log_mass_in_onnx(points, prototypes, 20.0) - log_mass_of(points, prototypes, 20))
    assert error.max() < 1e-5


def test_one_prototype_is_always_the_nearest() -> None:
    prototypes, points = near_prototypes(7, 0.5, count=1)
    error = np.abs(log_mass_in_onnx(points, prototypes, 20.0) - log_mass_of(points, prototypes, 20))
    assert error.max() < 1e-5


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_bad_location_is_nan_and_spoils_no_other(bad: float) -> None:
    prototypes, points = near_prototypes(8, 0.5, images=3)
    expected = log_mass_in_onnx(points, prototypes, 20.0)
    points[1, 5, 17] = bad
    found = log_mass_in_onnx(points, prototypes, 20.0)
    assert np.isnan(found[1, 17])
    found[1, 17] = expected[1, 17]
    np.testing.assert_array_equal(found, expected)


def scores_in(prototypes: np.ndarray, gamma: float) -> ir.Graph:
    """Return a graph of the scores and the log-mass."""
    shape = ir.Shape(["batch", prototypes.shape[1], 1, 4])
    value = ir.Value(name="embeddings", shape=shape, type=ir.TensorType(ir.DataType.FLOAT))
    graph = ir.Graph([value], [], nodes=[], opset_imports={"": 18}, name="costs")
    scope = GraphScope(graph, HEAD_SCOPE)
    scores = write_scores(scope, value, write_lengths(scope, value), prototypes, gamma)
    write_log_mass(scope, scores, gamma)
    return graph


@pytest.mark.parametrize(("gamma", "subtracts"), [(0.1, 0), (40.0, 0), (40.1, 1), (100.0, 1)])
def test_the_maximum_is_subtracted_only_where_an_exponential_could_vanish(
    gamma: float, subtracts: int
) -> None:
    graph = scores_in(np.eye(3, 5, dtype=np.float32), gamma)
    assert sum(node.op_type == "ReduceMax" for node in graph) == subtracts


def test_the_prototypes_come_back_from_the_kernel() -> None:
    """Inside the unit ball, rounded once; a command reads them from a file's constants."""
    prototypes = np.random.default_rng(0).standard_normal((3, 5)).astype(np.float32)
    prototypes[1] *= 0.01
    (kernel,) = (
        node.inputs[1].const_value.numpy()
        for node in scores_in(prototypes, 5.0)
        if node.op_type == "Conv" and str(node.inputs[1].name).endswith(PROTOTYPE_KERNEL)
    )
    precise = prototypes.astype(np.float64)
    inside = precise / np.maximum(1, np.linalg.norm(precise, axis=1, keepdims=True))
    np.testing.assert_array_equal(unit_prototypes(kernel), inside.astype(np.float32))
