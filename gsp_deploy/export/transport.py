"""The three solvers as ONNX operators: branch-free, of fixed length, float32 throughout.

They mirror `gsp_deploy.layers.transport`, which gives the reason for each step. Tensors over
locations are `(B, 1, H, W)`; the one unknown per image is `(B, 1, 1, 1)`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from gsp_deploy.base.constants import SMALLEST_SLOPE
from gsp_deploy.bounds import third_order_error
from gsp_deploy.cost_bounds import UNIT_ROUNDOFF
from gsp_deploy.export.graph import CHANNELS, LOCATIONS, GraphScope
from gsp_deploy.float32_bounds import SMALLEST_DIVISOR


@dataclass(frozen=True)
class SolverPlan:
    """The solver that the graph unrolls, and its number of steps.

    `certified` also has the number of points of its sweep, and the log-mass range that the plan
    assumes.
    """

    solver: str
    steps: int
    grid_points: int = 0
    log_mass_range: float = 0.0


def mixing_weights(
    graph: GraphScope, log_mass: ir.Value, ratio: float, plan: SolverPlan, initial_scale: float
) -> ir.Value:
    """Write the solver for log-masses `(B, 1, H, W)`; return the weights, of the same shape."""
    if plan.solver == "certified":
        log_mass, beta = _certified(graph, log_mass, ratio, plan)
    elif plan.solver == "newton":
        peak = graph.reduce("ReduceMax", log_mass, LOCATIONS, name="peak_log_mass")
        log_mass = graph.op("Sub", log_mass, peak, name="shifted_log_mass")
        beta = _newton(graph, log_mass, ratio, plan.steps)
    else:
        beta = _fixed_point(graph, log_mass, ratio, plan.steps, initial_scale)
    kept = graph.op("Sigmoid", graph.op("Add", beta, log_mass, name="logit"), name="kept")
    return graph.op("Mul", kept, graph.constant("inverse_ratio", 1 / ratio), name="weights")


def _certified(
    graph: GraphScope, log_mass: ir.Value, ratio: float, plan: SolverPlan
) -> tuple[ir.Value, ir.Value]:
    """Return the log-masses shifted to `logit mu - (max l - l)`, and beta for them.

    After this shift the root is in [0, R], where R is the image's own max l - min l.
    """
    logit = graph.constant("logit_ratio", math.log(ratio) - math.log1p(-ratio))
    peak = graph.reduce("ReduceMax", log_mass, LOCATIONS, name="peak_log_mass")
    lowest = graph.reduce("ReduceMin", log_mass, LOCATIONS, name="least_log_mass")
    width = graph.op("Sub", peak, lowest, name="bracket")
    shift = graph.op("Sub", peak, logit, name="shift")
    log_mass = graph.op("Sub", log_mass, shift, name="logit_at_low_end")
    with graph.within("sweep") as inner:
        beta = _sweep(inner, log_mass, width, ratio, plan.grid_points)
    longest = plan.log_mass_range / (2 * (plan.grid_points + 1))
    for step in range(1, plan.steps + 1):
        # The last side has no bound: a bound would turn NaN into a number on some runtimes.
        limit = longest if step < plan.steps else None
        with graph.within(f"certified_{step}") as inner:
            beta = _third_order_step(inner, log_mass, beta, ratio, limit)
        longest = third_order_error(longest)
    return log_mass, beta


def _sweep(
    graph: GraphScope, log_mass: ir.Value, width: ir.Value, ratio: float, points: int
) -> ir.Value:
    """Return the middle of the root's cell, `(B, 1, 1, 1)`; the points are along the channels.

    If n of G points are at or below the root, the middle is (n + 1/2) / (G + 1) of the bracket.
    That is the mean over the points of (G + 1/2) / (G + 1) for each point at or below the root and
    1/2 / (G + 1) for each other point.
    """
    ends = np.arange(1, points + 1, dtype=np.float64) / (points + 1)
    shares = graph.constant("swept_shares", ends.astype(np.float32).reshape(1, -1, 1, 1))
    swept = graph.op("Mul", width, shares, name="points")
    kept = graph.op("Sigmoid", graph.op("Add", log_mass, swept, name="logit"), name="kept")
    mean = graph.reduce("ReduceMean", kept, LOCATIONS, name="mean")
    below = graph.op("LessOrEqual", mean, graph.constant("ratio", ratio), name="below_root")
    counted = graph.constant("below_share", (points + 0.5) / (points + 1))
    passed = graph.constant("above_share", 0.5 / (points + 1))
    votes = graph.op("Where", below, counted, passed, name="votes")
    middle = graph.reduce("ReduceMean", votes, CHANNELS, name="middle")
    return graph.op("Mul", width, middle, name="beta")


def _third_order_step(
    graph: GraphScope, log_mass: ir.Value, beta: ir.Value, ratio: float, limit: float | None
) -> ir.Value:
    """Write one step, 16 nodes.

    Its length is at most `limit`. Without a limit, the divisor stays above rounding instead, so
    that a step among saturated locations stays short.
    """
    kept = graph.op("Sigmoid", graph.op("Add", log_mass, beta, name="logit"), name="kept")
    beyond = graph.op("Sub", kept, graph.constant("ratio", ratio), name="beyond")
    excess = graph.reduce("ReduceMean", beyond, LOCATIONS, name="excess")
    # A little more than 1, so that the mean slope is above 0 even if every share is 0 or 1.
    rest = graph.op("Sub", graph.constant("beyond_one", 1 + 2 * UNIT_ROUNDOFF), kept, name="rest")
    slopes = graph.op("Mul", kept, rest, name="slopes")
    slope = graph.reduce("ReduceMean", slopes, LOCATIONS, name="slope")
    centred = graph.op("Sub", graph.constant("half", 0.5), kept, name="below_half")
    bends = graph.op("Mul", slopes, centred, name="bends")
    mean_bend = graph.reduce("ReduceMean", bends, LOCATIONS, name="mean_bend")
    bend = graph.op("Div", mean_bend, slope, name="bend")
    correction = graph.op("Mul", excess, bend, name="correction")
    corrected = graph.op("Sub", slope, correction, name="corrected_slope")
    if limit is None:
        smallest = graph.constant("smallest_divisor", SMALLEST_DIVISOR)
        corrected = graph.op("Max", corrected, smallest, name="divisor")
        change = graph.op("Div", excess, corrected, name="change")
    else:
        change = graph.op("Div", excess, corrected, name="unlimited_change")
        ends = [graph.constant(f"change_{end:.3e}", end) for end in (-limit, limit)]
        change = graph.op("Clip", change, *ends, name="change")
    return graph.op("Sub", beta, change, name="beta")


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

    Only this step can be deep in the sigmoid's tail, where float32 runtimes return 0. ONNX Runtime
    did so below -18, and the weights were then all 1 / ratio.
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
