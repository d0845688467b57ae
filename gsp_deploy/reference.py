"""The exact solution in float64, by bisection: the oracle that certificates and checks refer to.

Written apart from the layer on purpose, in numpy and without its shortcuts, so that the two
cannot be wrong in the same way.
"""

from __future__ import annotations

import numpy as np

BISECTIONS = 80
# A share k = w mu lies in [0, 1], and float32's sigmoid gives it to some 1e-7. Where the shares of
# an image spread over less than this, an error over the spread would measure that rounding (2e-5
# of it and more) and no solver's convergence.
SMALLEST_SHARE_SPREAD = 4e-3


def exact_weights(log_mass: np.ndarray, ratio: float) -> np.ndarray:
    """Return the mixing weights w `(B, N)` of log-masses l `(B, N)`, mean 1.

    `w_i = sigmoid(beta + l_i) / ratio` with beta the root of `mean_i sigmoid(beta + l_i) = ratio`.
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


def relative_weight_error(weights: np.ndarray, exact: np.ndarray, ratio: float) -> np.ndarray:
    """Return each image's worst |w - w*| over the spread of its exact weights, `(B,)`.

    The mean weight is 1 whatever the image, and where gamma is small all weights are close to it:
    what they say is their spread, max w* - min w*. A spread below `SMALLEST_SHARE_SPREAD` / mu
    counts as that, because it is rounding.

    Args:
        weights: to judge, `(B, ...)`; an image with a weight that is not finite has the error inf.
        exact: what they should be, of the same shape.
        ratio: mu.
    """
    exact = np.asarray(exact, dtype=np.float64).reshape(len(exact), -1)
    found = np.asarray(weights, dtype=np.float64).reshape(exact.shape)
    with np.errstate(invalid="ignore"):
        error = np.abs(found - exact).max(axis=1)
    spread = np.maximum(np.ptp(exact, axis=1), SMALLEST_SHARE_SPREAD / ratio)
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
