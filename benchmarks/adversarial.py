"""How far the certified solver is off on inputs that were made against it, and what it promises.

Log-masses of two to five values, 1 to 4,096 locations, gamma from 0.1 to 200, mu from 0.01 to 0.99,
on ONNX Runtime in float32, against a bisection in float64; then hill-climbing from the worst.
Large images are drawn less often, since they take longest.
"""

from __future__ import annotations

import argparse
import math
from typing import Any, NamedTuple

import numpy as np
import onnx_ir as ir
import onnxruntime
from conditions import conditions, publish

from gsp_deploy.bounds import DEFAULT_TOLERANCE, Sweep, sweep_for
from gsp_deploy.export.graph import GraphScope
from gsp_deploy.export.transport import SolverPlan, mixing_weights
from gsp_deploy.float32_bounds import SolverSetting, weight_error_bound
from gsp_deploy.reference import BISECTIONS, exact_weights, relative_weight_error

GAMMAS = (0.1, 1.0, 5.0, 20.0, 50.0, 100.0, 200.0)
RATIOS = (0.01, 0.1, 0.3, 0.5, 0.7, 0.9, 0.99)
# Locations of an image, and how many of its problems there are for each of the smallest ones.
LOCATIONS = {1: 1.0, 2: 1.0, 3: 1.0, 16: 1.0, 49: 1.0, 196: 1.0, 1024: 0.1, 4096: 0.05}
MOST_VALUES = 200_000
CLIMBS = 60


def main() -> None:
    """Draw `--problems` problems, climb from the worst ones, and print the worst of each gamma."""
    asked = _arguments()
    about = conditions(asked.threads, problems=asked.problems, seed=asked.seed)
    results = [_search(gamma, asked) for gamma in GAMMAS]
    columns = ("gamma", "points, steps", "problems", "worst / spread", "after climbing",
               "worst share of the stated bound")  # fmt: skip
    publish("adversarial", about, results, columns, [_row(r) for r in results], asked.json)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--problems", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", action="store_true")
    return parser.parse_args()


def _search(gamma: float, asked: argparse.Namespace) -> dict[str, Any]:
    draw = np.random.default_rng(asked.seed)
    sweep = sweep_for(2 * gamma, DEFAULT_TOLERANCE)
    cases = [(ratio, locations) for ratio in RATIOS for locations in LOCATIONS]
    each = asked.problems / len(GAMMAS) / len(RATIOS) / sum(LOCATIONS.values())
    worst = climbed = share = 0.0
    problems = 0
    for ratio, locations in cases:
        solver = _solver(gamma, ratio, sweep, asked.threads)
        setting = SolverSetting(ratio, 2 * gamma, 0.0, locations)
        stated = weight_error_bound(sweep, setting)
        found: list[tuple[float, np.ndarray]] = []
        count = math.ceil(each * LOCATIONS[locations])
        problems += count
        for size in _chunks(count, locations):
            values, which = _groups(draw, gamma, locations, size)
            log_mass = np.take_along_axis(values, which, axis=1)
            exact = _exact(values, which, ratio)
            errors = _errors(solver, log_mass, exact, ratio)
            share = max(share, float(errors.absolute.max()) / stated)
            worst_one = errors.relative.argmax()
            found.append((float(errors.relative[worst_one]), log_mass[[worst_one]]))
        top, start = max(found, key=lambda one: one[0])
        worst = max(worst, top)
        if locations <= 196:
            relative, absolute = _climb(solver, start, ratio, gamma, draw)
            climbed, share = max(climbed, relative), max(share, absolute / stated)
    return {
        "gamma": gamma,
        "points": sweep.points,
        "steps": sweep.steps,
        "problems": problems,
        "worst": worst,
        "climbed": climbed,
        "share_of_bound": share,
    }


def _chunks(count: int, locations: int) -> list[int]:
    size = max(1, MOST_VALUES // locations)
    return [min(size, count - start) for start in range(0, count, size)]


def _solver(gamma: float, ratio: float, sweep: Sweep, threads: int) -> onnxruntime.InferenceSession:
    shape = ir.Shape(["batch", 1, 1, "locations"])
    log_mass = ir.Value(name="log_mass", shape=shape, type=ir.TensorType(ir.DataType.FLOAT))
    graph = ir.Graph([log_mass], [], nodes=[], opset_imports={"": 18}, name="solver")
    plan = SolverPlan("certified", sweep.steps, sweep.points, 2 * gamma)
    weights = mixing_weights(GraphScope(graph, "gsp"), log_mass, ratio, plan, 1.0)
    weights.shape, weights.dtype = shape, ir.DataType.FLOAT
    graph.outputs.append(weights)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    model = ir.to_proto(ir.Model(graph, ir_version=10)).SerializeToString()
    return onnxruntime.InferenceSession(model, options)


def _groups(
    draw: np.random.Generator, gamma: float, locations: int, count: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return two to five log-masses `(count, kinds)` in float32's range, and each location's.

    The second array `(count, locations)` has indices into the first.
    """
    kinds = int(draw.integers(2, 6))
    values = -2 * gamma * draw.random((count, kinds)) * draw.uniform(0.05, 1)
    if draw.random() < 0.4:
        values = -2 * gamma * draw.integers(0, 2, (count, kinds)).astype(float)
    which = draw.integers(0, kinds, (count, locations))
    if draw.random() < 0.5:
        alike = draw.integers(1, locations + 1, (count, 1))
        which = np.where(np.arange(locations) < alike, 0, which)
    return values.astype(np.float32).astype(np.float64), which


def _exact(values: np.ndarray, which: np.ndarray, ratio: float) -> np.ndarray:
    """Return the exact weights `(count, locations)` from one equation over the few values.

    A value that no location has gets the log-mass of the first location, and no share.
    """
    kinds = np.arange(values.shape[1])
    shares = (which[:, :, None] == kinds).mean(axis=1)
    present = np.where(shares > 0, values, np.take_along_axis(values, which[:, :1], axis=1))
    low, high = (
        math.log(ratio) - math.log1p(-ratio) - end[:, None]
        for end in (present.max(axis=1), present.min(axis=1))
    )
    for _ in range(BISECTIONS):
        middle = 0.5 * (low + high)
        too_high = (shares * _sigmoid(middle + present)).sum(axis=1, keepdims=True) > ratio
        low, high = np.where(too_high, low, middle), np.where(too_high, middle, high)
    weights = _sigmoid(0.5 * (low + high) + present) / ratio
    return np.take_along_axis(weights, which, axis=1)


def _sigmoid(x: np.ndarray) -> np.ndarray:
    return np.exp(-np.logaddexp(0, -x))


class _Errors(NamedTuple):
    """The largest weight error of each image, `(count,)`."""

    absolute: np.ndarray
    relative: np.ndarray  # to the spread of the exact weights


def _errors(
    solver: onnxruntime.InferenceSession, log_mass: np.ndarray, exact: np.ndarray, ratio: float
) -> _Errors:
    found = solver.run(None, {"log_mass": log_mass[:, None, None].astype(np.float32)})[0][:, 0, 0]
    absolute = np.abs(found.astype(np.float64) - exact).max(axis=1)
    return _Errors(absolute, relative_weight_error(found, exact, ratio))


def _climb(
    solver: onnxruntime.InferenceSession,
    start: np.ndarray,
    ratio: float,
    gamma: float,
    draw: np.random.Generator,
) -> tuple[float, float]:
    """Move away from a problem as long as its relative error grows.

    Returns the largest relative and the largest absolute error of all problems on the way.
    """
    best = np.repeat(start, 16, axis=0)
    errors = _errors(solver, best, exact_weights(best, ratio), ratio)
    worst, absolute = errors.relative, float(errors.absolute.max())
    for turn in range(CLIMBS):
        size = 2 * gamma * 10 ** draw.uniform(-4, 0)
        moved = draw.random(best.shape) < draw.choice([0.02, 0.3, 1.0])
        by = draw.standard_normal(best.shape if turn % 2 else (len(best), 1))
        tried = np.clip(best + size * moved * by, -2 * gamma, 0)
        tried = tried.astype(np.float32).astype(np.float64)
        errors = _errors(solver, tried, exact_weights(tried, ratio), ratio)
        absolute = max(absolute, float(errors.absolute.max()))
        better = errors.relative > worst
        best[better], worst[better] = tried[better], errors.relative[better]
    return float(worst.max()), absolute


def _row(result: dict[str, Any]) -> tuple[str, ...]:
    return (
        f"{result['gamma']:g}",
        f"{result['points']}, {result['steps']}",
        f"{result['problems']:,}",
        f"{result['worst']:.1e}",
        f"{result['climbed']:.1e}",
        f"{result['share_of_bound']:.3f}",
    )


if __name__ == "__main__":
    main()
