"""The paper's iteration as one would first write it: torch.cdist, a loop, and autograd."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from gsp_deploy import GeneralizedSumPooling, GSPConfig
from gsp_deploy.layers import PoolingOutput

BATCH, LOCATIONS, DIM, PROTOTYPES = 32, 49, 512, 64
RATIO, ENTROPY = 0.3, 5.0


def layer(solver: str, steps: int | None = None) -> GeneralizedSumPooling:
    """Return the package's layer, of the size that is measured here, with a square embedding."""
    config = GSPConfig(
        DIM,
        embedding_dim=DIM,
        num_prototypes=PROTOTYPES,
        transport_ratio=RATIO,
        entropy_weight=ENTROPY,
        solver=solver,  # type: ignore[arg-type]
        iterations=steps,
        bias=False,
    )
    return GeneralizedSumPooling(config)


def embedded(features: Tensor, weight: Tensor) -> Tensor:
    """Embed each location of `(B, C, H, W)` by a weight `(D, C)`."""
    return F.conv2d(features, weight[:, :, None, None])


def unrolled(embeddings: Tensor, prototypes: Tensor, steps: int) -> PoolingOutput:
    """Pool `(B, D, H, W)` with `steps` iterations that autograd records."""
    f = embeddings.flatten(2)
    share = 1 / f.shape[2]
    points = (f / f.norm(dim=1, keepdim=True).clamp(min=1)).transpose(1, 2)
    anchors = prototypes / prototypes.norm(dim=1, keepdim=True).clamp(min=1)
    kernel = torch.exp(-ENTROPY * torch.cdist(anchors.expand(len(f), -1, -1), points))
    mass = kernel.sum(dim=1)
    scale = torch.full_like(mass[:, :1], RATIO)
    for _ in range(steps + 1):
        residual = share / (1 + scale * mass)
        scale = RATIO / (residual * mass).sum(dim=1, keepdim=True)
    weights = (1 - residual / share) / RATIO
    attributes = (scale[:, :, None] * kernel * residual[:, None]).sum(dim=2) / RATIO
    embedding = F.normalize((f * weights[:, None]).mean(dim=2), dim=1)
    return PoolingOutput(embedding, attributes, weights.unflatten(1, embeddings.shape[2:]))


def inputs(seed: int = 0) -> tuple[Tensor, Tensor]:
    """Return embeddings `(B, D, 7, 7)`, most outside the unit ball, and prototypes `(M, D)`."""
    draw = torch.Generator().manual_seed(seed)
    side = int(LOCATIONS**0.5)
    embeddings = torch.randn(BATCH, DIM, side, side, generator=draw) * 1.5 / DIM**0.5
    prototypes = torch.randn(PROTOTYPES, DIM, generator=draw) / DIM**0.5
    return embeddings.requires_grad_(), prototypes.requires_grad_()


def loss(out: PoolingOutput) -> Tensor:
    """Return a number whose gradient flows through embedding and attributes."""
    assert out.attributes is not None
    return out.embedding[:, ::2].sum() + out.attributes.square().sum()
