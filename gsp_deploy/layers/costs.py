"""Costs between locations and prototypes: distances between vectors held inside the unit ball."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


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
    costs: Tensor = _Distances.apply(
        inside_unit_ball(embeddings, dim=1), inside_unit_ball(prototypes, dim=1)
    )
    return costs


class _Distances(torch.autograd.Function):
    """Euclidean distances through one matrix product; where a distance is 0 its gradient is 0."""

    @staticmethod
    def forward(ctx: Any, points: Tensor, prototypes: Tensor) -> Tensor:
        squared = torch.matmul(prototypes * -2, points)
        squared += points.square().sum(dim=1, keepdim=True)
        squared += prototypes.square().sum(dim=1)[None, :, None]
        costs = squared.clamp_(min=0).sqrt_()
        ctx.save_for_backward(points, prototypes, costs)
        return costs

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor]:
        points, prototypes, costs = ctx.saved_tensors
        pull = torch.where(costs > 0, gradient / costs, torch.zeros_like(costs))  # (B, M, N)
        to_points = points * pull.sum(dim=1, keepdim=True)
        to_points -= torch.matmul(prototypes.T, pull)
        to_prototypes = prototypes * pull.sum(dim=(0, 2))[:, None]
        to_prototypes -= torch.einsum("bmn,bdn->md", pull, points)
        return to_points, to_prototypes
