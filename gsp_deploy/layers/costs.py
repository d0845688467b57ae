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
    precise = inside_unit_ball(prototypes.to(widest_dtype(prototypes)), dim=1)
    costs: Tensor = _Costs.apply(embeddings, precise.to(embeddings.dtype))
    return costs


class _Costs(torch.autograd.Function):
    """Distances of f / max(1, ||f||) to anchors, through one matrix product.

    The embeddings are by far the largest tensor of the layer, and memory limits its speed. So the
    normalisation is applied to the product `(B, M, N)`, and the gradient is written by hand: the
    normalised embeddings are not kept, and only one tensor of their size is live at a time.

    If a distance is 0, its gradient is 0. Below the square root of the machine epsilon the
    direction between the two points is only rounding. There the gradient falls linearly to 0 (as
    in Huber's smoothing of the distance) instead of growing with 1 / distance.
    """

    @staticmethod
    def forward(ctx: Any, points: Tensor, anchors: Tensor) -> Tensor:
        squares = points.square().sum(dim=1, keepdim=True)  # (B, 1, N)
        divisor = _divisor(squares)
        squared = torch.bmm(anchors.expand(len(points), -1, -1), points)  # (B, M, N)
        squared *= -2 / divisor
        squared += anchors.square().sum(dim=1)[:, None]
        least, nearest = squared.min(dim=1, keepdim=True)  # (B, 1, N)
        squared -= least
        squared += _squares_to_nearest(points, divisor, anchors, nearest)
        costs = squared.sqrt_()
        ctx.save_for_backward(points, anchors, costs, squares)
        return costs

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor]:
        points, anchors, costs, squares = ctx.saved_tensors
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
