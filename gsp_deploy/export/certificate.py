"""Count the Newton steps that images need, and measure the error of the final graph on them.

Both functions run the real graph in ONNX Runtime and compare it with `gsp_deploy.reference` in
float64. They are measurements; `gsp_deploy.export.plan` has the guarantees for every input.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from gsp_deploy.artifact import SolverCertificate, WeightGuarantee
from gsp_deploy.config import GSPConfig
from gsp_deploy.errors import GspDeployError
from gsp_deploy.export.calibration import Calibration
from gsp_deploy.export.graph import HEAD_SCOPE, IR_VERSION, GraphScope
from gsp_deploy.export.transport import SolverPlan, mixing_weights
from gsp_deploy.export.trial_run import running
from gsp_deploy.reference import exact_weights, log_mass_of, relative_weight_error

MOST_STEPS = 32
CHUNK = 8


@dataclass(frozen=True)
class WeightErrors:
    """Worst errors of mixing weights over a set of images; see `SolverCertificate`."""

    marginal: float
    absolute: float
    relative: float

    @classmethod
    def between(cls, weights: np.ndarray, exact: np.ndarray, ratio: float) -> WeightErrors:
        """Compare weights `(B, N)` with the float64 solution of the same shape."""
        error = np.abs(weights.astype(np.float64) - exact)
        marginal = np.abs(weights.astype(np.float64).mean(axis=1) - 1)
        relative = relative_weight_error(weights, exact, ratio)
        return cls(float(marginal.max()), float(error.max()), float(relative.max()))


def fewest_steps(
    probe: ir.Model,
    config: GSPConfig,
    prototypes: np.ndarray,
    calibration: Calibration,
    tolerance: float,
    at_least: int,
) -> int:
    """Return the fewest Newton steps with a worst relative weight error within `tolerance`.

    The result holds for the calibration images only. So the search starts at `at_least`, the
    number of steps that other inputs are known to need.

    Args:
        probe: a graph with the per-location embeddings and the log-masses as its last outputs.
        config: the head.
        prototypes: p `(M, D)`.
        calibration: inputs to try on.
        tolerance: largest allowed weight error, relative to the spread of the image's weights.
        at_least: the smallest number of steps to try.

    Raises:
        GspDeployError: 32 steps in float32 do not reach the tolerance, or the embeddings overflow.
    """
    log_mass, exact = _against_exact(probe, config, prototypes, calibration)
    best, most = np.inf, max(MOST_STEPS, at_least)
    for steps in range(at_least, most + 1):
        weights = _solve(log_mass, config, steps)
        errors = WeightErrors.between(weights, exact, config.transport_ratio)
        best = min(best, errors.relative)
        if best <= tolerance:
            return steps
    raise GspDeployError(
        f"up to {most} Newton steps in float32 come within {best:.1e} of the exact weights, "
        f"not {tolerance:.1e} on the calibration images; "
        "pass a larger --tolerance"
    )


def certify(
    twin: ir.Model,
    config: GSPConfig,
    prototypes: np.ndarray,
    plan: SolverPlan,
    calibration: Calibration,
    tolerance: float | None,
    guarantee: WeightGuarantee | None,
) -> SolverCertificate:
    """Compare the final graph's weights with the exact solution for its own embeddings.

    Args:
        twin: the final graph with the per-location embeddings and the weights as its last outputs.
        config: the head.
        prototypes: p `(M, D)`.
        plan: the solver that was unrolled.
        calibration: inputs to measure on.
        tolerance: the tolerance that chose the number of steps; copied into the result.
        guarantee: the bounds proved for the plan; copied into the result.

    Raises:
        GspDeployError: the embeddings overflow.
    """
    weights, exact = _against_exact(twin, config, prototypes, calibration)
    errors = WeightErrors.between(weights, exact, config.transport_ratio)
    return SolverCertificate(
        solver=plan.solver,
        steps=plan.steps,
        tolerance=tolerance,
        images=len(calibration.inputs),
        calibration=calibration.source,
        worst_marginal_error=errors.marginal,
        worst_weight_error=errors.absolute,
        worst_relative_weight_error=errors.relative,
        grid_points=plan.grid_points,
        guarantee=guarantee,
    )


def _against_exact(
    network: ir.Model, config: GSPConfig, prototypes: np.ndarray, calibration: Calibration
) -> tuple[np.ndarray, np.ndarray]:
    """Return the graph's last output `(n, 1, H, W)` as `(n, N)`, and the exact weights `(n, N)`.

    The exact weights are the float64 solution for the graph's own embeddings, its last output but
    one. So the difference shows only the errors of cost, solver and their float32 arithmetic.
    """
    names = tuple(value.name or "" for value in network.graph.outputs[-2:])
    computed = _computed_type(network.graph.outputs[-2])
    found, exact = [], []
    for outputs in _run(network, names, calibration):
        embeddings, last = (_by_location(outputs[name]) for name in names)
        if _overflows(embeddings, computed):
            raise GspDeployError(
                "the embeddings overflow on the calibration images; export with bf16 or fp32, "
                "or check the images and the weights"
            )
        log_mass = log_mass_of(embeddings, prototypes, config.entropy_weight)
        exact.append(exact_weights(log_mass, config.transport_ratio))
        found.append(last[:, 0])
    return np.concatenate(found), np.concatenate(exact)


def _computed_type(embeddings: ir.Value) -> ir.DataType:
    """Return the type that embeddings were computed in before they were cast to float32."""
    producer = embeddings.producer()
    computed = producer.inputs[0] if producer and producer.op_type == "Cast" else embeddings
    return (computed.dtype if computed is not None else None) or ir.DataType.FLOAT


def _overflows(embeddings: np.ndarray, computed: ir.DataType) -> bool:
    """Whether float32 embeddings exceed the range of the type that a GPU computes them in.

    On a CPU, ONNX Runtime skips a cast to fp16 and back, so nothing overflows there.
    """
    with np.errstate(over="ignore"):
        return not np.isfinite(embeddings.astype(computed.numpy()).astype(np.float32)).all()


def _by_location(maps: np.ndarray) -> np.ndarray:
    """Return maps `(B, channels, H, W)` as `(B, channels, N)`."""
    return maps.reshape(*maps.shape[:2], -1)


def _run(
    network: ir.Model, names: tuple[str, ...], calibration: Calibration
) -> Iterator[Mapping[str, np.ndarray]]:
    """Yield the named outputs of the graph for one batch of calibration inputs after another."""
    with running(network) as graph:
        batch = graph.input.shape[0]
        for inputs in calibration.batches(batch if isinstance(batch, int) else CHUNK):
            yield graph.run(calibration.prepare(inputs, graph.input.dtype), names)


def _solve(log_mass: np.ndarray, config: GSPConfig, steps: int) -> np.ndarray:
    """Run the solver alone, as ONNX, on log-masses `(n, N)`; return weights of the same shape."""
    shape = ir.Shape(["batch", 1, 1, "locations"])
    value = ir.Value(name="log_mass", shape=shape, type=ir.TensorType(ir.DataType.FLOAT))
    graph = ir.Graph([value], [], nodes=[], opset_imports={"": 18}, name="solver")
    scope, plan = GraphScope(graph, HEAD_SCOPE), SolverPlan("newton", steps)
    weights = mixing_weights(scope, value, config.transport_ratio, plan, 1.0)
    weights.dtype, weights.shape = ir.DataType.FLOAT, shape
    graph.outputs.append(weights)
    with running(ir.Model(graph, ir_version=IR_VERSION)) as solver:
        name = weights.name or ""
        found: np.ndarray = solver.run(log_mass[:, None, None], (name,))[name]
        return found[:, 0, 0]
