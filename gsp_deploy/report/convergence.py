"""Measure how fast each solver converges on the images of a report."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from scipy.special import logsumexp

from gsp_deploy.bounds import DEFAULT_TOLERANCE, sweep_for
from gsp_deploy.explain import PoolingMaps
from gsp_deploy.layers.transport import TransportProblem, mixing_weights
from gsp_deploy.reference import exact_weights, relative_weight_error

CERTIFIED_STEPS = (1, 2, 3)
NEWTON_STEPS = (1, 2, 3, 4, 5, 6, 8, 10, 12)
FIXED_POINT_STEPS = (1, 2, 3, 5, 7, 10, 15, 20, 30, 50, 70, 100)

Curve = tuple[tuple[int, float], ...]


@dataclass(frozen=True)
class Convergence:
    """Worst weight error over images by number of steps, relative to each image's weight spread.

    All curves are computed in float64 from the same log-masses. `certified` uses as many points as
    the image with the widest range of log-masses needs at the default tolerance.
    """

    certified: Curve
    newton: Curve
    fixed_point: Curve


def measure_convergence(maps: PoolingMaps) -> Convergence | None:
    """Solve for the images' weights with more and more steps.

    Return None if there is nothing to solve: no scores, no transport ratio, or a ratio of 1.
    """
    ratio = maps.transport_ratio
    if maps.scores is None or ratio is None or ratio == 1:
        return None
    scores = maps.scores.reshape(*maps.scores.shape[:2], -1).astype(np.float64)
    log_mass = logsumexp(scores, axis=1)
    exact = exact_weights(log_mass, ratio)
    points_swept = sweep_for(float(np.ptp(log_mass, axis=1).max()), DEFAULT_TOLERANCE).points

    def curve(solver: str, counts: tuple[int, ...]) -> Curve:
        points = []
        for steps in counts:
            problem = TransportProblem(ratio, solver, steps, ratio, points_swept)  # type: ignore[arg-type]
            weights = mixing_weights(torch.from_numpy(log_mass), problem).numpy()
            points.append((steps, float(relative_weight_error(weights, exact, ratio).max())))
        return tuple(points)

    return Convergence(
        curve("certified", CERTIFIED_STEPS),
        curve("newton", NEWTON_STEPS),
        curve("fixed-point", FIXED_POINT_STEPS),
    )
