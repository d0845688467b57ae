"""Bound an answer's error from the answer alone, without the exact solution.

All weights w_i(beta) = sigmoid(beta + l_i) / mu rise together with beta. So at any beta that a
solver returns, the errors w_i - w_i* have the same sign, and

    mean_i |w_i - w_i*| = |mean_i w_i - mean_i w_i*| = |mean_i w_i - 1|     exactly.

With `gap` the pooled vector v = mean_i w_i f_i (+ what does not depend on w) is off by

    ||v - v*|| <= mean_i |w_i - w_i*| ||f_i|| <= |mean w - 1| max_i ||f_i||.

Let eps be that bound divided by ||v||: the relative error of the pooled vector is at most eps. If
eps < 1, v* is in a ball about v that does not contain 0, and the angle t of the two is largest
along a tangent: sin t <= eps. So their cosine distance is

    1 - cos t <= 1 - sqrt(1 - eps^2) = eps^2 / (1 + sqrt(1 - eps^2)) <= eps^2 <= eps.

The stated bound is eps. Below 1 it bounds the cosine distance too, and so does its square; a value
of 1 or more says nothing about the angle. All of this is for exact arithmetic: float32 rounding
adds about 1e-7 per weight, which eps has room for and eps^2 has not.
"""

from __future__ import annotations

from torch import Tensor

from gsp_deploy.base.constants import NORM_FLOOR

# The largest possible value, for answers without a proof.
LARGEST_COSINE_DISTANCE = 2.0


def weight_residual(weights: Tensor) -> Tensor:
    """Return the mean absolute error of weights `(B, N)`, |mean w - 1|, `(B,)`, no gradient."""
    return (weights.detach().mean(dim=1) - 1).abs()


def embedding_bound(residual: Tensor, embeddings: Tensor, pooled: Tensor) -> Tensor:
    """Bound the relative error of the pooled vectors, and so their cosine distance, `(B,)`.

    Args:
        residual: of the weights, `(B,)`.
        embeddings: per-location embeddings f `(B, D, N)`.
        pooled: the vectors before their normalisation, `(B, D)`; at least 1e-12 long.
    """
    longest = embeddings.detach().norm(dim=1).amax(dim=1)
    length = pooled.detach().norm(dim=1).clamp(min=NORM_FLOOR)
    return residual * longest / length
