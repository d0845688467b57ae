"""What rounding to float32 adds to the certified solver's error, for every input.

Shares k = w mu are in [0, 1], and u = 2^-24. Three kinds of error weigh differently:

1. Errors of a logit. l is off by at most d = (the costs' part) + u (R + |logit mu|), the second
   part from the shift by the peak; the root moves by up to d as well. The scale itself is rounded
   to u R. A logit that is off by x moves a share by at most x / 4.
2. The error e of a computed mean share. A step from distance h then ends within
   E(h) + e (1 + h) e^h / m', m' being the slope at the root, but no further away than its limit
   allows. A scale that is off by h moves a share by at most s' (e^h - 1), and the share's slope s'
   is at most 1/4 and N m': if one location alone stands between saturated ones, the mean is N times
   less sensitive than it.
   `_worst_of_mean` takes the worst over all m'.
3. The error of the last sigmoid.

The error of a mean is that of a sigmoid and of a sum of k - mu in which no term passes more than
`_additions(N)` additions, as in every vectorised or parallel sum.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from gsp_deploy.bounds import Sweep, relative_error, third_order_error
from gsp_deploy.cost_bounds import UNIT_ROUNDOFF

# No sigmoid of a runtime is off by more: ONNX Runtime's on a CPU comes to 1.7e-7, at 16.5.
SIGMOID_ERROR = 3 * UNIT_ROUNDOFF
# What the exported solver divides by at least in its last step, where nothing else limits it: a
# mean slope below this is so near to rounding that a step is better too short than too long.
SMALLEST_DIVISOR = 2.0**-18
# A graph whose size is open is bounded for as many locations as this.
MOST_LOCATIONS = 256
_LANES = 32


@dataclass(frozen=True)
class SolverSetting:
    """What the bound depends on, beside the sweep itself.

    Attributes:
        ratio: mu, below 1.
        log_mass_range: a bound on R.
        log_mass_error: a bound on what float32 moves l; 0 for an l that is given in float32.
        locations: the largest N that the bound is for.
    """

    ratio: float
    log_mass_range: float
    log_mass_error: float
    locations: int


def weight_error_bound(sweep: Sweep, setting: SolverSetting) -> float:
    """Return a bound on |w - w*|, weights having mean 1, for every input; rounding included."""
    logits = sweep.distance(setting.log_mass_range) + _logit_error(setting)
    share = logits / 4 + _worst_of_mean(sweep, setting) + SIGMOID_ERROR
    return min(1.0, share) / setting.ratio


def reachable(ratio: float, log_mass_range: float) -> float:
    """Return the error over the weights' spread that rounding of logits alone can come to."""
    setting = SolverSetting(ratio, log_mass_range, 0.0, 1)
    return relative_error(_logit_error(setting), log_mass_range)


def _logit_error(setting: SolverSetting) -> float:
    logit = math.log(setting.ratio) - math.log1p(-setting.ratio)
    shift = UNIT_ROUNDOFF * (setting.log_mass_range + abs(logit))
    return 2 * (setting.log_mass_error + shift) + UNIT_ROUNDOFF * setting.log_mass_range


def _worst_of_mean(sweep: Sweep, setting: SolverSetting) -> float:
    """Return the worst share error that errors of the means cause, over all slopes at the root."""
    error = _mean_error(setting)
    slopes = np.geomspace(1e-12, 0.25, 600)  # below it a share cannot move by more than N 1e-12
    amplification = min(setting.locations, math.exp(min(setting.log_mass_range, 700)))
    shares = [
        min(0.25, amplification * slope) * math.expm1(_final_distance(sweep, setting, error, slope))
        for slope in slopes
    ]
    between = slopes[1] / slopes[0]  # what a slope between two of these can add
    return float(min(1.0, between * max(shares)))


def _final_distance(sweep: Sweep, setting: SolverSetting, error: float, slope: float) -> float:
    """Return how far from the root the last step can end, its means being off by `error`."""
    distance = limit = setting.log_mass_range / (2 * (sweep.points + 1))
    for step in range(1, sweep.steps + 1):
        ended = third_order_error(distance) + error * (1 + distance) * math.exp(distance) / slope
        if step < sweep.steps:
            distance = min(ended, distance + limit)
            limit = third_order_error(limit)
        elif slope * math.exp(-distance) > SMALLEST_DIVISOR:
            distance = min(ended, distance + error / SMALLEST_DIVISOR + math.expm1(distance))
        else:  # a step that may be too short
            distance += error / SMALLEST_DIVISOR
    return distance


def _mean_error(setting: SolverSetting) -> float:
    deviation = 2 * setting.ratio * (1 - setting.ratio)  # the most that mean |k - mu| can be
    return SIGMOID_ERROR + (_additions(setting.locations) + 2) * UNIT_ROUNDOFF * deviation


def _additions(locations: int) -> int:
    return math.ceil(locations / _LANES) + math.ceil(math.log2(locations + 1)) + 2
