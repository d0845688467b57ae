"""Compute costs: distances of locations and prototypes, both pulled inside the unit ball.

||p||^2 + ||f||^2 - 2 p.f cancels if a location is on a prototype. So the squares are computed
about the nearest prototype k: with x_j = ||p_j||^2 - 2 p_j.f they are ||p_k - f||^2 + (x_j - x_k).
The first term comes from differences, and the second is never below 0.
`gsp_deploy.cost_bounds` bounds the error, for the export's graph and for the layer in float32.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from gsp_deploy.layers.precision import widest_dtype


def inside_unit_ball(vectors: Tensor, dim: int) -> Tensor:
    """Divide by max(1, ||.||): vectors inside the unit ball stay as they are (1-Lipschitz)."""
    norm = torch.linalg.vector_norm(vectors, dim=dim, keepdim=True)
    return vectors / norm.clamp(min=1)


def prototype_costs(embeddings: Tensor, prototypes: Tensor) -> Tensor:
    """Return c `(B, M, N)`, the distance of location i to prototype j, in [0, 2].

    Args:
        embeddings: per-location embeddings f `(B, D, N)`.
        prototypes: p `(M, D)`.
    """
    costs: Tensor = _Costs.apply(embeddings, unit_prototypes(prototypes, embeddings.dtype))
    return costs


def unit_prototypes(prototypes: Tensor, dtype: torch.dtype) -> Tensor:
    """Return the prototypes p `(M, D)` inside the unit ball, rounded once to `dtype`."""
    return inside_unit_ball(prototypes.to(widest_dtype(prototypes)), dim=1).to(dtype)


def prototype_gradient(gradient: Tensor, prototypes: Tensor) -> Tensor:
    """Return the gradient of the prototypes, from that of `unit_prototypes`."""
    precise = prototypes.to(widest_dtype(prototypes))
    lengths = torch.linalg.vector_norm(precise, dim=1, keepdim=True)
    unit, wanted = precise / lengths, gradient.to(precise.dtype)  # only longer ones need `unit`
    across = wanted - unit * (unit * wanted).sum(dim=1, keepdim=True)
    return torch.where(lengths > 1, across / lengths, wanted).to(prototypes.dtype)


def distances(points: Tensor, anchors: Tensor) -> tuple[Tensor, Tensor]:
    """Return the distances of f / max(1, ||f||) to the anchors, and ||f||^2, without a graph.

    The embeddings are by far the largest tensor of the layer, and memory limits its speed. So the
    normalisation is applied to the product `(B, M, N)`: the normalised embeddings are not kept.

    Args:
        points: f `(B, D, N)`.
        anchors: p `(M, D)`, inside the unit ball.

    Returns:
        `(B, M, N)` and `(B, 1, N)`.
    """
    squares = points.square().sum(dim=1, keepdim=True)  # (B, 1, N)
    divisor = _divisor(squares)
    squared = torch.bmm(anchors.expand(len(points), -1, -1), points)  # (B, M, N)
    squared *= -2 / divisor
    squared += anchors.square().sum(dim=1)[:, None]
    least, nearest = squared.min(dim=1, keepdim=True)  # (B, 1, N)
    squared -= least
    squared += _squares_to_nearest(points, divisor, anchors, nearest)
    return squared.sqrt_(), squares


def distance_gradients(
    gradient: Tensor, points: Tensor, anchors: Tensor, costs: Tensor, squares: Tensor
) -> tuple[Tensor, Tensor]:
    """Return the gradients of points and anchors, from that of `distances`.

    If a distance is 0, its gradient is 0. Below the square root of the machine epsilon the
    direction between the two points is only rounding. There the gradient falls linearly to 0 (as
    in Huber's smoothing of the distance) instead of growing with 1 / distance. Only one tensor of
    the points' size is live at a time.
    """
    divisor = _divisor(squares)
    floor = torch.finfo(costs.dtype).eps ** 0.5
    pull = torch.where(costs == 0, 0, gradient / costs.clamp(min=floor))  # (B, M, N)
    along = _pull_along(pull, costs, squares, anchors)
    pull_on_points = pull / divisor
    to_points = points * along
    across = anchors.T.contiguous().expand(len(points), -1, -1)
    to_points.baddbmm_(across, pull_on_points, alpha=-1)
    to_anchors = anchors * pull.sum(dim=(0, 2))[:, None]
    # One product over all locations of the batch, instead of one (M, D) per image and a sum.
    to_anchors.addmm_(_by_row(pull_on_points), _by_row(points).T, alpha=-1)
    return to_points, to_anchors


class _Costs(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, points: Tensor, anchors: Tensor) -> Tensor:
        costs, squares = distances(points, anchors)
        ctx.save_for_backward(points, anchors, costs, squares)
        return costs

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor]:
        return distance_gradients(gradient, *ctx.saved_tensors)


def _squares_to_nearest(
    points: Tensor, divisor: Tensor, anchors: Tensor, nearest: Tensor
) -> Tensor:
    """Return ||f / divisor - p_k||^2 `(B, 1, N)` for the anchors p_k of the indices `nearest`."""
    batch, dim, _ = points.shape
    columns = anchors.T.expand(batch, -1, -1)  # (B, D, M)
    offsets = columns.gather(2, nearest.expand(-1, dim, -1))  # (B, D, N)
    return offsets.neg_().addcdiv_(points, divisor).square_().sum(dim=1, keepdim=True)


def _by_row(values: Tensor) -> Tensor:
    """Return `(B, rows, N)` as `(rows, B * N)`."""
    return values.transpose(0, 1).flatten(1)


def _divisor(squares: Tensor) -> Tensor:
    """Return max(1, ||f||) from ||f||^2."""
    return squares.clamp(min=1).sqrt_()


def _pull_along(pull: Tensor, costs: Tensor, squares: Tensor, anchors: Tensor) -> Tensor:
    """Return the factor of f itself in its gradient, `(B, 1, N)`; `squares` is ||f||^2.

    Inside the ball it is the sum of the pulls. Outside, only the direction of f counts: the radial
    part drops out and leaves sum_j pull_j <p_j, f^> / ||f||^2, with
    2 <p, f^> = ||p||^2 + 1 - c^2.
    """
    lengths = anchors.square().sum(dim=1)[:, None]
    products = (pull * (lengths + 1 - costs.square())).sum(dim=1, keepdim=True) / 2
    return torch.where(squares < 1, pull.sum(dim=1, keepdim=True), products / squares.clamp(min=1))
