"""Bound the error that float32 rounding adds to the certified solver, for every input.

Shares k = w mu are in [0, 1], and u = 2^-24. There are three kinds of error:

1. Errors of a logit. l is off by at most d = (the costs' part) + u (R + |logit mu|), the second
   part from the shift by the peak; the root moves by up to d as well. The scale itself is rounded
   to u R. A logit that is off by x moves a share by at most x / 4.
2. The error e of a computed mean share. A step from distance h then ends within
   E(h) + e (1 + h) e^h / m', where m' is the slope at the root, but no further away than its limit
   allows. A scale that is off by h moves a share by at most s' (e^h - 1), and the share's slope s'
   is at most 1/4 and N m': if only one location is not saturated, the mean is N times less
   sensitive than its share.
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

# The largest error assumed of a runtime's sigmoid: ONNX Runtime's on a CPU is 1.7e-7, at 16.5.
SIGMOID_ERROR = 3 * UNIT_ROUNDOFF
# The smallest divisor of the exported solver's last step, which has no other limit. A mean slope
# below this is so near to rounding that a short step is safer than a long one.
SMALLEST_DIVISOR = 2.0**-18
# If a graph's size is open, the bound is for up to this many locations.
MOST_LOCATIONS = 256
_LANES = 32


@dataclass(frozen=True)
class SolverSetting:
    """The quantities that the bound depends on, besides the sweep itself.

    Attributes:
        ratio: mu, below 1.
        log_mass_range: a bound on R.
        log_mass_error: a bound on the error of l by float32; 0 if l is given in float32.
        locations: the largest N that the bound is for.
    """

    ratio: float
    log_mass_range: float
    log_mass_error: float
    locations: int


def weight_error_bound(sweep: Sweep, setting: SolverSetting) -> float:
    """Return a bound on |w - w*| for every input, for weights of mean 1, rounding included."""
    logits = sweep.distance(setting.log_mass_range) + _logit_error(setting)
    share = logits / 4 + _worst_of_mean(sweep, setting) + SIGMOID_ERROR
    return min(1.0, share) / setting.ratio


def reachable(ratio: float, log_mass_range: float) -> float:
    """Return the largest error over the weights' spread by rounding of the logits alone."""
    setting = SolverSetting(ratio, log_mass_range, 0.0, 1)
    return relative_error(_logit_error(setting), log_mass_range)


def _logit_error(setting: SolverSetting) -> float:
    logit = math.log(setting.ratio) - math.log1p(-setting.ratio)
    shift = UNIT_ROUNDOFF * (setting.log_mass_range + abs(logit))
    return 2 * (setting.log_mass_error + shift) + UNIT_ROUNDOFF * setting.log_mass_range


def _worst_of_mean(sweep: Sweep, setting: SolverSetting) -> float:
    """Return the worst share error that errors of the means cause, over all slopes at the root."""
    error = _mean_error(setting)
    slopes = np.geomspace(1e-12, 0.25, 600)  # below it a share moves by at most N 1e-12
    amplification = min(setting.locations, math.exp(min(setting.log_mass_range, 700)))
    shares = [
        min(0.25, amplification * slope) * math.expm1(_final_distance(sweep, setting, error, slope))
        for slope in slopes
    ]
    between = slopes[1] / slopes[0]  # the most that a slope between two of these adds
    return float(min(1.0, between * max(shares)))


def _final_distance(sweep: Sweep, setting: SolverSetting, error: float, slope: float) -> float:
    """Return how far from the root the last step can end if its means are off by `error`."""
    distance = limit = setting.log_mass_range / (2 * (sweep.points + 1))
    for step in range(1, sweep.steps + 1):
        ended = third_order_error(distance) + error * (1 + distance) * math.exp(distance) / slope
        if step < sweep.steps:
            distance = min(ended, distance + limit)
            limit = third_order_error(limit)
        elif slope * math.exp(-distance) > SMALLEST_DIVISOR:
            distance = min(ended, distance + error / SMALLEST_DIVISOR + math.expm1(distance))
        else:  # the step may be too short
            distance += error / SMALLEST_DIVISOR
    return distance


def _mean_error(setting: SolverSetting) -> float:
    deviation = 2 * setting.ratio * (1 - setting.ratio)  # the most that mean |k - mu| can be
    return SIGMOID_ERROR + (_additions(setting.locations) + 2) * UNIT_ROUNDOFF * deviation


def _additions(locations: int) -> int:
    return math.ceil(locations / _LANES) + math.ceil(math.log2(locations + 1)) + 2
