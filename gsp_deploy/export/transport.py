"""The two solvers as ONNX operators: branch-free, of fixed length, float32 throughout.

They mirror `gsp_deploy.layers.transport`, which says why each step is as it is. All tensors are
`(B, 1, H, W)` for locations and `(B, 1, 1, 1)` for the one unknown of an image.
"""

from __future__ import annotations

import math

import onnx_ir as ir

from gsp_deploy.base.constants import SMALLEST_SLOPE
from gsp_deploy.export.graph import LOCATIONS, GraphScope


def mixing_weights(
    graph: GraphScope,
    log_mass: ir.Value,
    ratio: float,
    solver: str,
    steps: int,
    initial_scale: float,
) -> ir.Value:
    """Write the solver for log-masses `(B, 1, H, W)`; return the weights, of the same shape."""
    if solver == "newton":
        peak = graph.reduce("ReduceMax", log_mass, LOCATIONS, name="peak_log_mass")
        log_mass = graph.op("Sub", log_mass, peak, name="shifted_log_mass")
        beta = _newton(graph, log_mass, ratio, steps)
    else:
        beta = _fixed_point(graph, log_mass, ratio, steps, initial_scale)
    kept = graph.op("Sigmoid", graph.op("Add", beta, log_mass, name="logit"), name="kept")
    return graph.op("Mul", kept, graph.constant("inverse_ratio", 1 / ratio), name="weights")


def _newton(graph: GraphScope, log_mass: ir.Value, ratio: float, steps: int) -> ir.Value:
    logit = graph.constant("logit_ratio", math.log(ratio) - math.log1p(-ratio))
    low = logit  # the largest shifted log-mass is 0
    lowest = graph.reduce("ReduceMin", log_mass, LOCATIONS, name="lowest_log_mass")
    high = graph.op("Sub", logit, lowest, name="high")
    mean = graph.reduce("ReduceMean", log_mass, LOCATIONS, name="mean_log_mass")
    beta = graph.op("Sub", logit, mean, name="beta")
    for step in range(1, steps + 1):
        with graph.within(f"newton_{step}") as inner:
            beta, low, high = _newton_step(inner, log_mass, beta, low, high, ratio)
    return beta


def _newton_step(
    graph: GraphScope,
    log_mass: ir.Value,
    beta: ir.Value,
    low: ir.Value,
    high: ir.Value,
    ratio: float,
) -> tuple[ir.Value, ir.Value, ir.Value]:
    """Write one step, 18 nodes: a Newton step that never crosses the middle of the bracket."""
    kept = graph.op("Sigmoid", graph.op("Add", beta, log_mass, name="logit"), name="kept")
    mean = graph.reduce("ReduceMean", kept, LOCATIONS, name="mean")
    squares = graph.op("Mul", kept, kept, name="squares")
    mean_square = graph.reduce("ReduceMean", squares, LOCATIONS, name="mean_square")
    variance = graph.op("Sub", mean, mean_square, name="mean_slope")
    slope = graph.op(
        "Max", variance, graph.constant("smallest_slope", SMALLEST_SLOPE), name="slope"
    )
    excess = graph.op("Sub", mean, graph.constant("ratio", ratio), name="excess")
    step = graph.op("Sub", beta, graph.op("Div", excess, slope, name="change"), name="step")
    too_high = graph.op("Greater", excess, graph.constant("zero", 0.0), name="too_high")
    low = graph.op("Where", too_high, low, beta, name="low")
    high = graph.op("Where", too_high, beta, high, name="high")
    width = graph.op("Add", low, high, name="ends")
    middle = graph.op("Mul", width, graph.constant("half", 0.5), name="middle")
    from_above = graph.op("Max", step, middle, name="from_above")
    from_below = graph.op("Min", step, middle, name="from_below")
    return graph.op("Where", too_high, from_above, from_below, name="beta"), low, high


def _fixed_point(
    graph: GraphScope, log_mass: ir.Value, ratio: float, steps: int, initial_scale: float
) -> ir.Value:
    log_ratio = graph.constant("log_ratio", math.log(ratio))
    with graph.within("fixed_point_1") as inner:
        beta = _first_fixed_point_step(inner, log_mass, log_ratio, math.log(initial_scale))
    for step in range(2, steps + 1):
        with graph.within(f"fixed_point_{step}") as inner:
            logit = inner.op("Add", beta, log_mass, name="logit")
            kept = inner.op("Sigmoid", logit, name="kept")
            mean = inner.reduce("ReduceMean", kept, LOCATIONS, name="mean")
            raised = inner.op("Add", beta, log_ratio, name="raised")
            beta = inner.op("Sub", raised, inner.op("Log", mean, name="log_mean"), name="beta")
    return beta


def _first_fixed_point_step(
    graph: GraphScope, log_mass: ir.Value, log_ratio: ir.Value, start: float
) -> ir.Value:
    """Write the first step relative to the largest log-mass.

    It alone can lie deep in the sigmoid's tail, where float32 runtimes return 0: seen in ONNX
    Runtime below -18, with weights that were all 1 / ratio as the result.
    """
    peak = graph.reduce("ReduceMax", log_mass, LOCATIONS, name="peak_log_mass")
    mass = graph.op("Exp", graph.op("Sub", log_mass, peak, name="below_peak"), name="mass")
    logit = graph.op("Add", log_mass, graph.constant("log_initial_scale", start), name="logit")
    odds = graph.op("Exp", logit, name="odds")
    rest = graph.op("Add", odds, graph.constant("one", 1.0), name="one_and_odds")
    share = graph.op("Div", mass, rest, name="share")
    mean = graph.reduce("ReduceMean", share, LOCATIONS, name="mean")
    below = graph.op("Sub", log_ratio, graph.op("Log", mean, name="log_mean"), name="below")
    return graph.op("Sub", below, peak, name="beta")
