"""The solvers alone, as ONNX: against the float64 root and the paper's iteration in numpy."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from scipy.special import expit

from gsp_deploy.export.graph import GraphScope
from gsp_deploy.export.transport import SolverPlan, mixing_weights
from gsp_deploy.reference import exact_weights
from gsp_deploy.runtime.onnx_graph import OnnxGraph

RATIOS = [0.05, 0.3, 0.7, 0.99]


def write_solver(
    path: Path, ratio: float, solver: str | SolverPlan, steps: int = 0, scale: float = 1.0
) -> Path:
    """Write a graph from log-masses (batch, 1, 1, N) to the mixing weights."""
    shape = ir.Shape(["batch", 1, 1, "locations"])
    log_mass = ir.Value(name="log_mass", shape=shape, type=ir.TensorType(ir.DataType.FLOAT))
    graph = ir.Graph([log_mass], [], nodes=[], opset_imports={"": 18}, name="solver")
    plan = solver if isinstance(solver, SolverPlan) else SolverPlan(solver, steps)
    weights = mixing_weights(GraphScope(graph, "gsp"), log_mass, ratio, plan, scale)
    weights.shape, weights.dtype = shape, ir.DataType.FLOAT
    graph.outputs.append(weights)
    ir.save(ir.Model(graph, ir_version=10), path)
    return path


def solve(path: Path, log_mass: np.ndarray) -> np.ndarray:
    with OnnxGraph(path) as graph:
        found = graph.run(log_mass[:, None, None].astype(np.float32), ("gsp/weights",))
    return found["gsp/weights"][:, 0, 0]


def adversarial() -> dict[str, np.ndarray]:
    """Log-masses that are hard for a root search; float32 holds them exactly."""
    draw = np.random.default_rng(0)
    outlier = np.full((1, 49), -6.0)
    outlier[0, 11] = 30
    found = {
        "random": draw.standard_normal((6, 49)),
        "sharp": 15 * draw.standard_normal((6, 49)),
        "constant": np.full((1, 49), 2.5),
        "outlier": outlier,
        "inlier": -outlier,
        "bimodal": np.repeat([[-20.0, 5.0]], 24, axis=1),
        "two": np.array([[-60.0, 0.0]]),
        "single": np.array([[-7.0]]),
        "ramp": np.linspace(-80, 0, 49)[None],
        "far": draw.standard_normal((2, 49)) - 300,
    }
    return {name: values.astype(np.float32).astype(np.float64) for name, values in found.items()}


@pytest.mark.parametrize("ratio", RATIOS)
@pytest.mark.parametrize("name", adversarial())
def test_newton_finds_the_exact_root(name: str, ratio: float, tmp_path: Path) -> None:
    log_mass = adversarial()[name]
    found = solve(write_solver(tmp_path / "s.onnx", ratio, "newton", 32), log_mass)
    exact = exact_weights(log_mass, ratio)
    # shares of at most 1, over the ratio; the further apart the logits, the coarser they are
    assert np.abs(found - exact).max() < (6e-7 + 2e-8 * np.ptp(log_mass)) / ratio


@pytest.mark.parametrize("ratio", RATIOS)
def test_newton_gains_with_every_step_and_stays(ratio: float, tmp_path: Path) -> None:
    log_mass = adversarial()["random"] * 3
    exact = exact_weights(log_mass, ratio)
    worst = [
        np.abs(
            solve(write_solver(tmp_path / "s.onnx", ratio, "newton", steps), log_mass) - exact
        ).max()
        for steps in (1, 2, 3, 8, 20, 32)
    ]
    assert worst[0] > worst[1] > worst[2]
    assert max(worst[3:]) < 1e-5


def papers_iteration(log_mass: np.ndarray, ratio: float, steps: int, scale: float) -> np.ndarray:
    """The paper's update on masses, not logarithms, in float64."""
    mass, share = np.exp(log_mass), 1 / log_mass.shape[1]
    scales = np.full((len(mass), 1), scale)
    for _ in range(steps):
        residual = share / (1 + scales * mass)
        scales = ratio / (residual * mass).sum(axis=1, keepdims=True)
    return (1 - share / (1 + scales * mass) / share) / ratio


@pytest.mark.parametrize("scale", [0.3, 1.0])
@pytest.mark.parametrize("steps", [1, 2, 7, 100])
@pytest.mark.parametrize("ratio", RATIOS)
def test_fixed_point_is_the_papers_iteration(
    ratio: float, steps: int, scale: float, tmp_path: Path
) -> None:
    path = write_solver(tmp_path / "s.onnx", ratio, "fixed-point", steps, scale)
    for name in ("random", "constant", "bimodal", "single"):
        log_mass = adversarial()[name]
        expected = papers_iteration(log_mass, ratio, steps, scale)
        np.testing.assert_allclose(solve(path, log_mass), expected, atol=2e-6 / ratio, rtol=1e-5)


def test_fixed_point_survives_a_deep_start(tmp_path: Path) -> None:
    """Where exp(l) is nothing in float32 the first step still finds the location that counts."""
    path = write_solver(tmp_path / "s.onnx", 0.3, "fixed-point", 100, 0.3)
    log_mass = adversarial()["far"]
    np.testing.assert_allclose(solve(path, log_mass), exact_weights(log_mass, 0.3), atol=1e-4)


@pytest.mark.parametrize(("solver", "most"), [("newton", 18), ("fixed-point", 6)])
def test_a_step_is_of_the_size_that_was_promised(solver: str, most: int, tmp_path: Path) -> None:
    counts = {
        steps: len(onnx.load(write_solver(tmp_path / "s.onnx", 0.3, solver, steps)).graph.node)
        for steps in (4, 5, 9)
    }
    assert counts[5] - counts[4] == most
    assert counts[9] - counts[5] == 4 * most


def test_steps_are_named_by_their_number(tmp_path: Path) -> None:
    graph = onnx.load(write_solver(tmp_path / "s.onnx", 0.3, "newton", 3)).graph
    assert {n.name.split("/")[1] for n in graph.node if n.name.count("/") == 2} == {
        "newton_1", "newton_2", "newton_3",
    }  # fmt: skip
    assert sum(node.op_type == "Sigmoid" for node in graph.node) == 4  # one more for the weights


def test_sigmoid_of_the_root_gives_the_ratio(tmp_path: Path) -> None:
    """The weights are a sigmoid of beta + l: their logits differ from l by one constant."""
    log_mass = adversarial()["random"]
    kept = solve(write_solver(tmp_path / "s.onnx", 0.3, "newton", 12), log_mass) * 0.3
    logits = np.log(kept) - np.log1p(-kept)
    assert np.ptp(logits - log_mass, axis=1).max() < 1e-5
    np.testing.assert_allclose(expit(logits).mean(axis=1), 0.3, atol=1e-6)
