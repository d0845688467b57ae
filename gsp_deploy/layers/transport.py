"""Solve the partial optimal transport behind GSP as one scalar equation per image.

With `l_i = logsumexp_j(-gamma c_ji)` the mixing weights are `w_i = sigmoid(beta + l_i) / mu`,
where beta is the root of `mean_i sigmoid(beta + l_i) = mu`. There is one unknown for any number of
prototypes and locations. Three solvers find it:

- `fixed-point`: the paper's iteration, `beta <- beta + log mu - log mean_i sigmoid(beta + l_i)`
  from `beta = log mu`, a fixed number of times. Linear convergence, slow for mu near 1.
- `newton`: Newton's iteration on the same equation within a bracket. Quadratic convergence.
- `certified`: one sweep over points of the bracket, then a few third-order steps from the cell that
  holds the root. `gsp_deploy.bounds` proves how close it comes, for every input.

The gradient comes from the implicit-function theorem on that scalar. It needs no iterates, so
memory does not grow with their number.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from gsp_deploy.base.constants import SMALLEST_SLOPE
from gsp_deploy.bounds import LAYER_TOLERANCE, log_mass_range, sweep_for
from gsp_deploy.config import GSPConfig, Solver
from gsp_deploy.layers.precision import widest_dtype


@dataclass(frozen=True)
class TransportProblem:
    """The share of mass that is kept, the solver for the scale, and its number of steps.

    `points` is the number of points that `certified` sweeps; the other solvers have none.
    """

    ratio: float
    solver: Solver
    steps: int
    initial_scale: float
    points: int = 0

    @classmethod
    def of(cls, config: GSPConfig) -> TransportProblem:
        """Return the problem of a head's settings."""
        start, points = config.initial_scale, 0
        if config.solver == "certified":
            # Prototypes move during training, so use the range that holds for any prototypes.
            widest = log_mass_range(config.entropy_weight)
            points = sweep_for(widest, LAYER_TOLERANCE, config.steps).points
        return cls(
            ratio=config.transport_ratio,
            solver=config.solver,
            steps=config.steps,
            initial_scale=config.transport_ratio if start is None else start,
            points=points,
        )


def mixing_weights(log_mass: Tensor, problem: TransportProblem) -> Tensor:
    """Return the mixing weights `(B, N)` of log-masses l `(B, N)`; their mean over N is 1.

    A ratio of 1 keeps everything: the weights are exactly 1 and carry no gradient. The solver
    runs in double precision if the device has it, because one scalar per image is cheap.
    """
    if problem.ratio == 1:
        return torch.ones_like(log_mass)
    weights: Tensor = _MixingWeights.apply(log_mass, problem)
    return weights


def solve_log_scale(log_mass: Tensor, problem: TransportProblem) -> Tensor:
    """Return beta `(B, 1)` for log-masses `(B, N)`, in the precision of the log-masses."""
    if problem.solver == "certified":
        return _certified(log_mass, problem)
    if problem.solver == "newton":
        return _newton(log_mass, problem.ratio, problem.steps)
    return _fixed_point(log_mass, problem)


def _fixed_point(log_mass: Tensor, problem: TransportProblem) -> Tensor:
    log_ratio = math.log(problem.ratio)
    beta = log_ratio - _log_mean_at_start(log_mass, math.log(problem.initial_scale))
    for _ in range(problem.steps - 1):
        previous = beta
        beta = beta + log_ratio - (beta + log_mass).sigmoid().mean(dim=1, keepdim=True).log()
        if _settled(beta, previous):
            break
    return beta


def _log_mean_at_start(log_mass: Tensor, start: float) -> Tensor:
    """Return log mean_i sigmoid(start + l_i) - start, `(B, 1)`, also for very low log-masses.

    Only the first step can be so deep in the sigmoid's tail that its mean vanishes; after it, the
    largest logit is at least log(ratio). So the first step is taken relative to the largest.
    """
    peak = log_mass.amax(dim=1, keepdim=True)
    share = (log_mass - peak).exp() / (1 + (start + log_mass).exp())
    return share.mean(dim=1, keepdim=True).log() + peak


def _newton(log_mass: Tensor, ratio: float, steps: int) -> Tensor:
    """Newton's iteration that never crosses the middle of its bracket.

    The current point is always an end of the bracket, so `the step is at most half the bracket`
    is the same as `the step does not cross the middle`: every step either is a short Newton step
    or halves the bracket. Accepting any step inside the bracket instead lets two points of the
    exponential tails chase each other for hundreds of steps (seen at gamma = 20, mu = 0.3).
    """
    logit = math.log(ratio) - math.log1p(-ratio)
    low = logit - log_mass.amax(dim=1, keepdim=True)
    high = logit - log_mass.amin(dim=1, keepdim=True)
    beta = logit - log_mass.mean(dim=1, keepdim=True)
    for _ in range(steps):
        previous = beta
        kept = (beta + log_mass).sigmoid()
        mean = kept.mean(dim=1, keepdim=True)
        slope = (mean - kept.square().mean(dim=1, keepdim=True)).clamp(min=SMALLEST_SLOPE)
        excess = mean - ratio
        step = beta - excess / slope
        too_high = excess > 0
        low = torch.where(too_high, low, beta)
        high = torch.where(too_high, beta, high)
        middle = 0.5 * (low + high)
        beta = torch.where(too_high, step.maximum(middle), step.minimum(middle))
        if _settled(beta, previous):
            break
    return beta


def _certified(log_mass: Tensor, problem: TransportProblem) -> Tensor:
    """Sweep the bracket, then take third-order steps from the middle of the root's cell.

    With r = (mu - m) / m' and k = m'' / m' a step is r / (1 + k r / 2). No step needs to be longer
    than half a cell, so each is limited to that: a step cannot run away where m' is only rounding.
    """
    logit = math.log(problem.ratio) - math.log1p(-problem.ratio)
    low = logit - log_mass.amax(dim=1, keepdim=True)
    cell = (logit - log_mass.amin(dim=1, keepdim=True) - low) / (problem.points + 1)
    beta = low + cell * (_cells_below(log_mass, low, cell, problem) + 0.5)
    half = 0.5 * cell
    for _ in range(problem.steps):
        kept = (beta + log_mass).sigmoid()
        excess = (kept - problem.ratio).mean(dim=1, keepdim=True)
        slopes = kept * (1 - kept)
        slope = slopes.mean(dim=1, keepdim=True).clamp(min=SMALLEST_SLOPE)
        bend = (slopes * (0.5 - kept)).mean(dim=1, keepdim=True) / slope
        change = excess / (slope - excess * bend)
        beta = beta - change.clamp(min=-half, max=half)
    return beta


def _cells_below(log_mass: Tensor, low: Tensor, cell: Tensor, problem: TransportProblem) -> Tensor:
    """Count the swept points at which no more than mu is kept, `(B, 1)`."""
    numbers = torch.arange(1, problem.points + 1, device=low.device, dtype=low.dtype)
    kept = (low + cell * numbers)[:, :, None] + log_mass[:, None, :]  # (B, G, N)
    below = kept.sigmoid().mean(dim=2) <= problem.ratio
    return below.sum(dim=1, keepdim=True).to(low.dtype)


def _settled(beta: Tensor, previous: Tensor) -> bool:
    """Whether further steps would change nothing; only checked on the CPU, as a GPU would wait."""
    return beta.device.type == "cpu" and torch.equal(beta, previous)


def kept_shares(log_mass: Tensor, problem: TransportProblem) -> Tensor:
    """Return sigmoid(beta + l_i), the share that each location keeps, `(B, N)`, without a graph.

    It is in the widest precision of the device. The mean over N is the ratio.
    """
    precise = log_mass.to(widest_dtype(log_mass))
    if problem.ratio == 1:
        return torch.ones_like(precise)
    # Shifting by the largest log-mass leaves the weights as they are and keeps beta small.
    peak = precise.amax(dim=1, keepdim=True)
    shifted = precise - peak
    return (_solve_shifted(shifted, peak, problem) + shifted).sigmoid()


def log_mass_gradient(gradient: Tensor, kept: Tensor, ratio: float) -> Tensor:
    """Return the gradient of the log-masses `(B, N)`, from that of the weights `kept / ratio`."""
    slope = kept * (1 - kept)
    total = slope.sum(dim=1, keepdim=True).clamp(min=SMALLEST_SLOPE)
    wanted = gradient.to(kept.dtype)
    through_scale = (wanted * slope).sum(dim=1, keepdim=True) / total
    return (slope * (wanted - through_scale) / ratio).to(gradient.dtype)


class _MixingWeights(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, log_mass: Tensor, problem: TransportProblem) -> Tensor:
        kept = kept_shares(log_mass, problem)
        ctx.save_for_backward(kept)
        ctx.ratio = problem.ratio
        return (kept / problem.ratio).to(log_mass.dtype)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        (kept,) = ctx.saved_tensors
        return log_mass_gradient(gradient, kept, ctx.ratio), None


def _solve_shifted(shifted: Tensor, peak: Tensor, problem: TransportProblem) -> Tensor:
    """Return beta + peak. The fixed-point start is absolute, so it is solved unshifted."""
    if problem.solver != "fixed-point":
        return solve_log_scale(shifted, problem)
    return solve_log_scale(shifted + peak, problem) + peak
