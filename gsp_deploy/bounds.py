"""Compute the certified solver's guarantees for every input, without torch.

Let m(b) = mean_i sigmoid(b + l_i), m(b*) = mu at the root, and R = max l - min l of an image. The
bracket has length R. The solver starts in the middle of one of G + 1 equal cells of it, and takes a
fixed number of third-order steps. `docs/scalar-equation.md` proves these statements:

1. (log m')' is in [-1, 1], and k = m'' / m' obeys -(1 - k^2) / 2 <= k' <= 1 - k^2.
2. A Newton step from distance h ends within e^h - 1 - h of the root.
3. A step r / (1 + k r / 2), r = (mu - m) / m', ends within
   E(h) = 2 sinh(h/2) / (2 - cosh(h/2)) - h, about h^3 / 6.
4. A scale that is off by h moves a weight by at most (e^h - 1) / (1 - e^-R) of the spread of the
   image's weights, and by at most h / (4 mu).
5. R <= 2 gamma, and less where the prototypes are apart.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from gsp_deploy.errors import GspDeployError

# The default tolerance of `export`: weight error over the weights' spread.
DEFAULT_TOLERANCE = 1e-4
# The layer solves in float64 and aims at the rounding of its float32 results.
LAYER_TOLERANCE = 1e-9
# The share of a tolerance that the method may use; the rest is for rounding.
METHOD_SHARE = 0.25
# One step needs thousands of points. A third step would save half of the points, but start further
# away; rounding among saturated locations would then weigh ten times as much.
STEPS = 2
# From this distance on, a third-order step is not proved to come closer.
_LARGEST_DISTANCE = 2 * math.acosh(2)
# Newton steps that an adversarial search could not exceed (1e-6 of the spread), by gamma.
_NEWTON_STEPS = {5.0: 6, 20.0: 12, 50.0: 14, 100.0: 16}


@dataclass(frozen=True)
class Sweep:
    """Settings of the certified solver: G points in one sweep, then some third-order steps."""

    points: int
    steps: int

    def distance(self, log_mass_range: float) -> float:
        """Return a bound on |b - b*| after all steps, in exact arithmetic."""
        h = log_mass_range / (2 * (self.points + 1))
        for _ in range(self.steps):
            h = third_order_error(h)
        return h

    def method_error(self, log_mass_range: float) -> float:
        """Return a bound on the worst weight error over the spread, in exact arithmetic.

        It grows with R, so the bound at the largest R holds for every image: the distance is convex
        in R and 0 at 0, and 1 - e^-R is concave.
        """
        return relative_error(self.distance(log_mass_range), log_mass_range)


def newton_error(distance: float) -> float:
    """Return how far from the root a Newton step from this distance can end."""
    return math.expm1(distance) - distance


def third_order_error(distance: float) -> float:
    """Return how far from the root a third-order step from this distance can end; sharp."""
    if distance >= _LARGEST_DISTANCE:
        return math.inf
    if distance < 1e-3:  # the difference below cancels; the series' remainder is below h^5 / 50
        return distance**3 / 6 + distance**5 / 50
    half = distance / 2
    return 2 * math.sinh(half) / (2 - math.cosh(half)) - distance


def relative_error(distance: float, log_mass_range: float) -> float:
    """Return a bound on the weight error over the spread if the scale is off by `distance`."""
    if distance == 0:
        return 0.0
    if distance > 700:
        return math.inf
    return math.expm1(distance) / -math.expm1(-log_mass_range)


def sweep_for(log_mass_range: float, tolerance: float, steps: int = STEPS) -> Sweep:
    """Return the fewest points so that `steps` steps end within a quarter of `tolerance`.

    The result depends on the range of l and the tolerance, and never on images.

    >>> sweep_for(log_mass_range=40.0, tolerance=1e-4)
    Sweep(points=29, steps=2)
    """
    low, high = 0, 1
    while Sweep(high, steps).method_error(log_mass_range) > METHOD_SHARE * tolerance:
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        enough = Sweep(middle, steps).method_error(log_mass_range) <= METHOD_SHARE * tolerance
        low, high = (low, middle) if enough else (middle, high)
    return Sweep(high, steps)


def log_mass_range(entropy_weight: float, prototypes: np.ndarray | None = None) -> float:
    """Return a bound on max l - min l over all inputs.

    l is gamma-Lipschitz on the unit ball, so 2 gamma always holds. With prototypes `(M, D)`:

    - l <= max_k log sum_j exp(-gamma d_jk / 2): with k the nearest prototype, c_j >= c_k and
      c_j >= d_jk - c_k, hence c_j >= d_jk / 2;
    - l >= log M - gamma mean_j c_j (Jensen), and mean_j c_j is at most the root of
      mean_j c_j^2 <= 1 + 2 ||mean p|| + mean ||p||^2.
    """
    widest = 2 * entropy_weight
    if prototypes is None:
        return widest
    unit = np.asarray(prototypes, dtype=np.float64)
    unit = unit / np.maximum(1, np.linalg.norm(unit, axis=1, keepdims=True))
    apart = np.stack([np.linalg.norm(unit - one, axis=1) for one in unit])
    highest = float(np.log(np.exp(-entropy_weight * apart / 2).sum(axis=1)).max())
    mean_square = 1 + 2 * np.linalg.norm(unit.mean(axis=0)) + np.square(unit).sum(axis=1).mean()
    lowest = math.log(len(unit)) - entropy_weight * math.sqrt(float(mean_square))
    return min(widest, highest - lowest)


def newton_steps(entropy_weight: float) -> int:
    """Return the Newton steps that the hardest inputs found for this gamma need.

    Beyond gamma = 100, each doubling of the bracket needs two more steps: one halves it again, and
    one only moves to its other side.
    """
    for gamma, steps in _NEWTON_STEPS.items():
        if entropy_weight <= gamma:
            return steps
    last, steps = max(_NEWTON_STEPS.items())
    return steps + 2 * math.ceil(math.log2(entropy_weight / last))


def check_reachable(reachable: float, tolerance: float, entropy_weight: float) -> None:
    """Raise `GspDeployError` if rounding to float32 alone exceeds its share of the tolerance."""
    least = reachable / (1 - METHOD_SHARE)
    if least > tolerance:
        raise GspDeployError(
            f"at entropy weight {entropy_weight:g} float32 keeps the weights within {least:.1e} of "
            f"their spread at best, not {tolerance:.1e}; pass --tolerance {_rounded_up(least)}"
        )


def _rounded_up(value: float) -> str:
    """Return a bound with one digit that is no less than it."""
    power = math.floor(math.log10(value))
    return f"{math.ceil(value / 10.0**power)}e{power:d}"
