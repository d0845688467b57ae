"""Solve the transport in float64 by bisection: the reference for certificates and checks.

This code is separate from the layer on purpose. It uses numpy and none of the layer's shortcuts, so
that the two are unlikely to be wrong in the same way.
"""

from __future__ import annotations

import numpy as np

BISECTIONS = 80
# A share k = w mu is in [0, 1], and float32's sigmoid is accurate to about 1e-7. If the shares of
# an image spread over less than this, an error divided by the spread would measure that rounding
# (2e-5 of the spread or more) and not the solver's convergence.
SMALLEST_SHARE_SPREAD = 4e-3


def exact_weights(log_mass: np.ndarray, ratio: float) -> np.ndarray:
    """Return the mixing weights w `(B, N)` of log-masses l `(B, N)`, mean 1.

    `w_i = sigmoid(beta + l_i) / ratio` with beta the root of `mean_i sigmoid(beta + l_i) = ratio`.

    >>> exact_weights(np.array([[0.0, 0.0, 2.0]]), ratio=0.5).round(3)
    array([[0.701, 0.701, 1.599]])
    """
    log_mass = np.asarray(log_mass, dtype=np.float64)
    if ratio == 1:
        return np.ones_like(log_mass)
    logit = np.log(ratio) - np.log1p(-ratio)
    low = logit - log_mass.max(axis=1, keepdims=True)
    high = logit - log_mass.min(axis=1, keepdims=True)
    for _ in range(BISECTIONS):
        middle = 0.5 * (low + high)
        too_high = _sigmoid(middle + log_mass).mean(axis=1, keepdims=True) > ratio
        low, high = np.where(too_high, low, middle), np.where(too_high, middle, high)
    return _sigmoid(0.5 * (low + high) + log_mass) / ratio


def relative_weight_error(
    weights: np.ndarray,
    exact: np.ndarray,
    ratio: float,
    smallest_spread: float = SMALLEST_SHARE_SPREAD,
) -> np.ndarray:
    """Return each image's worst |w - w*| over the spread of its exact weights, `(B,)`.

    The mean weight is 1 for every image, and if gamma is small, all weights are close to 1. Their
    information is in their spread, max w* - min w*. A spread below `smallest_spread` / mu is
    replaced by that value: by default a smaller spread is rounding.

    Args:
        weights: w to judge, `(B, ...)`; if a weight is not finite, the image's error is inf.
        exact: w*, of the same shape.
        ratio: mu.
        smallest_spread: the smallest spread of shares w mu to divide by.
    """
    exact = np.asarray(exact, dtype=np.float64).reshape(len(exact), -1)
    found = np.asarray(weights, dtype=np.float64).reshape(exact.shape)
    with np.errstate(invalid="ignore"):
        error = np.abs(found - exact).max(axis=1)
    spread = np.maximum(np.ptp(exact, axis=1), smallest_spread / ratio)
    relative: np.ndarray = np.where(np.isnan(error), np.inf, error / spread)
    return relative


def log_mass_of(
    embeddings: np.ndarray, prototypes: np.ndarray, entropy_weight: float
) -> np.ndarray:
    """Return `l_i = logsumexp_j(-gamma ||p_j - f_i||)`, `(B, N)`, in float64.

    Args:
        embeddings: per-location embeddings f `(B, D, N)`.
        prototypes: p `(M, D)`; both are brought inside the unit ball first.
        entropy_weight: gamma.
    """
    points = _inside_unit_ball(np.asarray(embeddings, np.float64), axis=1)
    anchors = _inside_unit_ball(np.asarray(prototypes, np.float64), axis=1)
    return np.stack([_log_mass_of_image(image, anchors, entropy_weight) for image in points])


def _log_mass_of_image(
    points: np.ndarray, anchors: np.ndarray, entropy_weight: float
) -> np.ndarray:
    squared = np.stack([np.square(points - anchor[:, None]).sum(axis=0) for anchor in anchors])
    return np.logaddexp.reduce(-entropy_weight * np.sqrt(squared), axis=0)


def _inside_unit_ball(vectors: np.ndarray, axis: int) -> np.ndarray:
    return vectors / np.maximum(1, np.linalg.norm(vectors, axis=axis, keepdims=True))


def _sigmoid(x: np.ndarray) -> np.ndarray:
    return np.exp(-np.logaddexp(0, -x))
