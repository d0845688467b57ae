"""Plan the solver of an export: its points and steps, and the bounds that are proved for them.

`certified` is planned from the entropy weight, the prototypes, the tolerance and float32 alone.
"""

from __future__ import annotations

import math

import numpy as np
import onnx_ir as ir

from gsp_deploy.artifact import WeightGuarantee
from gsp_deploy.bounds import Sweep, check_reachable, log_mass_range, newton_steps, sweep_for
from gsp_deploy.config import DEFAULT_ITERATIONS, GSPConfig
from gsp_deploy.cost_bounds import SPLIT_ERRORS, log_mass_error_bound
from gsp_deploy.export.options import ExportOptions
from gsp_deploy.export.transport import SolverPlan
from gsp_deploy.float32_bounds import (
    MOST_LOCATIONS,
    SolverSetting,
    reachable,
    weight_error_bound,
)

NOTHING_TO_SOLVE = SolverPlan("exact", 0)


def plan_without_images(
    head: GSPConfig, prototypes: np.ndarray | None, options: ExportOptions
) -> SolverPlan:
    """Return a plan that needs no images to count steps on.

    Newton without `iterations` gets as many as the hardest known inputs need.

    Raises:
        GspDeployError: no float32 result keeps the tolerance at this entropy weight.
    """
    if head.transport_ratio == 1:
        return NOTHING_TO_SOLVE
    if options.solver == "certified":
        return certified_plan(head, prototypes, options)
    if options.iterations is not None:
        return SolverPlan(options.solver, options.iterations)
    if options.solver == "newton":
        return SolverPlan("newton", newton_steps(head.entropy_weight))
    own = head.steps if head.solver == "fixed-point" else DEFAULT_ITERATIONS["fixed-point"]
    return SolverPlan("fixed-point", own)


def certified_plan(
    head: GSPConfig, prototypes: np.ndarray | None, options: ExportOptions
) -> SolverPlan:
    """Return points and steps that meet the tolerance for every input.

    Without prototypes they hold for any. `options.iterations` replaces the number of steps; the
    points stay as planned.

    Raises:
        GspDeployError: no float32 result keeps the tolerance at this entropy weight.
    """
    widest = log_mass_range(head.entropy_weight, prototypes)
    least = reachable(head.transport_ratio, widest)
    check_reachable(least, options.tolerance, head.entropy_weight)
    sweep = sweep_for(widest, options.tolerance)
    return SolverPlan("certified", options.iterations or sweep.steps, sweep.points, widest)


def guarantee_of(
    plan: SolverPlan,
    head: GSPConfig,
    prototypes: np.ndarray,
    locations: int | None,
    options: ExportOptions,
) -> WeightGuarantee:
    """Return the bounds on a certified plan's weights that hold for every input.

    Args:
        plan: a `certified` one.
        head: the head.
        prototypes: p `(M, D)`.
        locations: N of the graph; None if its size is open, for a bound up to 256.
        options: the form and precision, because the plugin's kernel splits prototypes.
    """
    sweep, most = Sweep(plan.grid_points, plan.steps), locations or MOST_LOCATIONS
    split = SPLIT_ERRORS.get(options.precision, 0.0) if options.pooling_form != "unrolled" else 0.0
    costs = log_mass_error_bound(head.entropy_weight, prototypes, split)

    def bound(log_mass_error: float) -> float:
        setting = SolverSetting(head.transport_ratio, plan.log_mass_range, log_mass_error, most)
        return weight_error_bound(sweep, setting)

    return WeightGuarantee(
        weight_error=bound(costs),
        solver_error=bound(0.0),
        method_error=sweep.method_error(plan.log_mass_range),
        log_mass_range=plan.log_mass_range,
        log_mass_error=costs,
        locations=most,
    )


def locations_of(maps: ir.Value) -> int | None:
    """Return N of a value `(B, channels, H, W)`, or None if its size is open."""
    sizes = () if maps.shape is None else maps.shape[2:]
    known = [size for size in sizes if isinstance(size, int)]
    return math.prod(known) if len(known) == 2 else None
