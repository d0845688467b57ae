"""Bound how far float32 can move a log-mass, for every input, from the prototypes alone.

Costs are computed about the nearest prototype k. With p^ the prototypes inside the unit ball and
f^ = f / max(1, ||f||), the squared distances differ by terms that are linear in f^:

    x_j = ||p^_j||^2 - 2 p^_j.f^,    k = argmin x,    c_j^2 = ||p^_k - f^||^2 + (x_j - x_k).

The first term is summed from differences, so nothing cancels if a location is on a prototype, and
the second is never below 0. Cancellation remains only in the costs of the *other* prototypes, and
these costs are at least about half the distance between two prototypes.

The bounds hold for any order of summation, in the standard model of floating point: u = 2^-24,
and n roundings in a row lose at most g(n) = n u / (1 - n u) of the sum of the magnitudes (Higham,
Accuracy and Stability of Numerical Algorithms, 2002, section 3.1). Two assumptions: square roots,
divisions, exp and log are good to 4 u, and equal prototypes have equal products p^.f^.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

UNIT_ROUNDOFF = 2.0**-24
# The largest error of a square root, division, exp or log, in units of u.
_ELEMENTARY = 4
# This factor covers every product of two small errors.
_SECOND_ORDER = 1.01
# The ratio of the two ends of each searched interval of costs; the bound uses the worse end.
_RATIO = 1.01
_LARGEST_COST = 2.0
# The plugin's kernel multiplies float16 and bfloat16 embeddings on matrix units, by prototypes in
# two halves of that type, high + low: what the two leave of a prototype, relative to its length.
SPLIT_ERRORS: Mapping[str, float] = {"fp16": 2.0**-22, "bf16": 2.0**-17}


def log_mass_error_bound(
    entropy_weight: float, prototypes: np.ndarray, split_error: float = 0.0
) -> float:
    """Return a bound on |delta l| of l = logsumexp_j(-gamma c_j), for every location.

    It holds for all float32 embeddings f if ||f||^2 is finite in float32. It covers everything
    computed in float32 from f on: normalisation, costs, scores and their logsumexp. The error of a
    cost counts gamma times; the scores, the exponentials and their sum add their own errors.

    Args:
        entropy_weight: gamma.
        prototypes: p `(M, D)`, inside the unit ball or not yet.
        split_error: see `SPLIT_ERRORS`; 0 for products in float32.
    """
    unit = _inside_unit_ball(prototypes)
    farthest = _farthest_nearest(unit, split_error)
    entropy = float(np.log(len(unit)))
    # The mean cost under the soft assignment is at most the least cost + log(M) / gamma.
    typical = min(_LARGEST_COST, farthest + entropy / entropy_weight)
    rounding = (_ELEMENTARY + 2) * UNIT_ROUNDOFF
    scores = entropy_weight * (cost_error_bound(prototypes, split_error) + rounding * typical)
    summed = _g(len(unit) + 2 * _ELEMENTARY)
    logarithm = rounding * (max(entropy_weight * farthest, entropy) + entropy)
    return _SECOND_ORDER * (scores + summed + logarithm)


def cost_error_bound(prototypes: np.ndarray, split_error: float = 0.0) -> float:
    """Return a bound on |delta c| over all costs c_j = ||p^_j - f^|| and all embeddings f.

    With D the length of an embedding and R = max ||p^_j||:

    1. Rounding p^ to float32 moves a cost by at most u. Normalising f moves it by at most
       (D / 2 + 5) u: the norm is the root of a sum of D squares, and then divides.
    2. Each x_j is off by at most e = g(D + 4) (2 R + R^2), and by 2 R times `split_error` more if
       the products are on matrix units. So k is the nearest up to 2 e in the
       square: with rho = ||p^_k - f^||, rho^2 <= c_j^2 + 2 e for every j.
    3. For j = k the square is a sum of D squares of differences: the root is off by at most
       (g(D + 2) / 2 + 4 u) rho.
    4. For the other j the square is off by at most s = 2 e + g(D + 6) rho^2 + 2 u c^2, and the
       root of a square that is off by s is off by at most min(sqrt(s), s / (c + sqrt(c^2 - s))).
    5. If p^_j is at distance d from p^_k, the triangle inequality with 2. gives
       c_j >= (d^2 - 2 e) / (2 d). So the worst of 4. is over c from there to 2, with d the
       smallest distance between two prototypes that are not equal.

    At D = 64 and well separated prototypes (d near 1) the bound is 3e-5, although float32 usually
    rounds to about 1e-7. It grows as D u / d while d falls, up to sqrt(2 e), about 5e-3.
    """
    unit = _inside_unit_ball(prototypes)
    dim, farthest = unit.shape[1], _farthest_nearest(unit, split_error)
    normalising = (dim / 2 + _ELEMENTARY + 1) * UNIT_ROUNDOFF + UNIT_ROUNDOFF
    nearest = (_g(dim + 2) / 2 + _ELEMENTARY * UNIT_ROUNDOFF) * farthest
    separation = smallest_separation(unit)
    others = 0.0 if separation is None else _worst_other(separation, unit, split_error)
    return _SECOND_ORDER * (normalising + max(nearest, others))


def smallest_separation(prototypes: np.ndarray) -> float | None:
    """Return the smallest distance between two float32 prototypes `(M, D)` that are not equal."""
    rounded = np.unique(_inside_unit_ball(prototypes).astype(np.float32), axis=0).astype(float)
    if len(rounded) == 1:
        return None
    return min(
        float(np.linalg.norm(rounded[row + 1 :] - rounded[row], axis=1).min())
        for row in range(len(rounded) - 1)
    )


def _worst_other(separation: float, unit: np.ndarray, split_error: float) -> float:
    """Return the worst case of step 4 over the costs that step 5 allows, interval by interval."""
    dim, slack = unit.shape[1], 2 * _product_error(unit, split_error)
    smallest = 0.1 * np.sqrt(slack)
    least = max((separation**2 - slack) / (2 * separation), 0.0)
    start = max(least, smallest)
    count = int(np.ceil(np.log(_LARGEST_COST / start) / np.log(_RATIO)))
    low = start * _RATIO ** np.arange(count)
    low = low if least >= smallest else np.append(0.0, low)
    high = np.append(low[1:], _LARGEST_COST)
    squared = slack + _g(dim + 6) * (high**2 + slack) + 2 * UNIT_ROUNDOFF * high**2
    root = low + np.sqrt(np.maximum(low**2 - squared, 0))
    divided = np.divide(squared, root, out=np.full_like(root, np.inf), where=root > 0)
    return float(np.minimum(np.sqrt(squared), divided).max())


def _product_error(unit: np.ndarray, split_error: float) -> float:
    """Return e of step 2."""
    radius = float(np.linalg.norm(unit, axis=1).max())
    rounding = _g(unit.shape[1] + 4) * (2 * radius + radius**2)
    return _SECOND_ORDER * (rounding + 2 * radius * split_error)


def _farthest_nearest(unit: np.ndarray, split_error: float) -> float:
    """Return a bound on how far a vector of the unit ball is from the prototype taken as nearest.

    The least squared cost is at most their mean, ||f||^2 - 2 f.mean(p) + mean(||p||^2).
    """
    centre = float(np.linalg.norm(unit.mean(axis=0)))
    mean = 1 + 2 * centre + float(np.square(unit).sum(axis=1).mean())
    return min(_LARGEST_COST, float(np.sqrt(mean + 2 * _product_error(unit, split_error))))


def _inside_unit_ball(vectors: np.ndarray) -> np.ndarray:
    precise = np.asarray(vectors, dtype=np.float64)
    inside: np.ndarray = precise / np.maximum(1, np.linalg.norm(precise, axis=1, keepdims=True))
    return inside


def _g(roundings: int) -> float:
    """Return g(n), the largest relative error of n roundings in a row."""
    return roundings * UNIT_ROUNDOFF / (1 - roundings * UNIT_ROUNDOFF)
