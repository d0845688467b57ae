"""The pooling head from features to its outputs, and its analytic gradient, without autograd.

`gsp_deploy.layers.operator` makes one operator of the two.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from gsp_deploy.base.constants import NORM_FLOOR
from gsp_deploy.config import GSPConfig
from gsp_deploy.layers.costs import (
    distance_gradients,
    distances,
    prototype_gradient,
    unit_prototypes,
)
from gsp_deploy.layers.reductions import Embedding, Pulls, Reduction
from gsp_deploy.layers.residual import LARGEST_COSINE_DISTANCE, embedding_bound, weight_residual
from gsp_deploy.layers.transport import TransportProblem, kept_shares, log_mass_gradient

Inputs = tuple[Tensor, Tensor, Tensor | None, Tensor, Tensor | None]


class PoolingOutput(NamedTuple):
    """What a pooling head returns.

    Attributes:
        embedding: `(B, D)`.
        attributes: share of the kept mass that goes to each prototype, `(B, M)`, sum 1;
            None for the baselines.
        weights: mixing weights of the locations, `(B, H, W)`, mean 1; None for the baselines.
        residual: mean absolute error of the weights, |mean w - 1|, `(B,)`; None for the baselines.
        embedding_bound: a bound on the relative error of the pooled vector, `(B,)`. Below 1 it
            bounds the embedding's cosine distance to the exactly solved one too, and so does
            its square. Without `gap` nothing is proved, and it is always 2. None for the
            baselines.
    """

    embedding: Tensor
    attributes: Tensor | None
    weights: Tensor | None
    residual: Tensor | None = None
    embedding_bound: Tensor | None = None


class PoolingSettings(NamedTuple):
    """The operator's last arguments; `GSPConfig` and `TransportProblem` describe them."""

    transport_ratio: float
    entropy_weight: float
    solver: str
    steps: int
    points: int
    initial_scale: float
    pooling: str
    max_residual: bool
    normalize: bool

    @classmethod
    def of(cls, config: GSPConfig, problem: TransportProblem) -> PoolingSettings:
        """Return the settings of a head and of its transport problem."""
        return cls(
            problem.ratio,
            config.entropy_weight,
            problem.solver,
            problem.steps,
            problem.points,
            problem.initial_scale,
            config.pooling,
            config.max_residual,
            config.normalize,
        )

    @property
    def problem(self) -> TransportProblem:
        """The transport problem."""
        return TransportProblem(
            self.transport_ratio,
            self.solver,  # type: ignore[arg-type]
            self.steps,
            self.initial_scale,
            self.points,
        )


class Head:
    """The head's parameters in the precision that it computes in."""

    def __init__(self, inputs: Inputs, settings: PoolingSettings) -> None:
        features, weight, bias, prototypes, power = inputs
        dtype = torch.promote_types(features.dtype, torch.float32)
        self.settings = settings
        self.locations = features.flatten(2).to(dtype)  # (B, C, N)
        self.anchors = unit_prototypes(prototypes, dtype)
        self.embed = Embedding.of(weight, bias, dtype)
        self.reduction = Reduction(settings.pooling, settings.max_residual, self.embed, power)


def pool(inputs: Inputs, settings: PoolingSettings) -> tuple[Tensor, ...]:
    """Pool features `(B, C, H, W)` by a head's parameters W `(D, C)`, b, p `(M, D)` and power.

    Returns:
        embedding `(B, D)`, attributes `(B, M)`, weights `(B, H, W)`, residual `(B,)` and
        embedding_bound `(B,)` as in `PoolingOutput`; then, for the gradient, f `(B, D, N)`, the
        costs `(B, M, N)`, ||f||^2 `(B, 1, N)` and the kept shares `(B, N)`.
    """
    head = Head(inputs, settings)
    embeddings = head.embed.of_locations(head.locations)
    costs, squares = distances(embeddings, head.anchors)
    scores = -settings.entropy_weight * costs
    kept = kept_shares(torch.logsumexp(scores, dim=1), settings.problem)
    weights = (kept / settings.transport_ratio).to(embeddings.dtype)
    attributes = _weighted_shares(torch.softmax(scores, dim=1), weights)
    pooled = head.reduction.forward(head.locations, embeddings, weights)
    residual = weight_residual(weights)
    if settings.pooling == "gap":
        bound = embedding_bound(residual, embeddings, pooled)
    else:
        bound = LARGEST_COSINE_DISTANCE + 0 * residual  # NaN stays NaN
    embedding = pooled / _floored_norm(pooled) if settings.normalize else pooled
    maps = weights.unflatten(1, inputs[0].shape[-2:])
    return embedding, attributes, maps, residual, bound, embeddings, costs, squares, kept


def gradients_of(
    pulled: Sequence[Tensor | None],
    inputs: Inputs,
    saved: Sequence[Tensor],
    needed: Sequence[bool],
    settings: PoolingSettings,
) -> list[Tensor | None]:
    """Return the gradients of the inputs; those that are not `needed` may be None.

    Args:
        pulled: gradients of embedding, attributes and weights; None is 0.
        inputs: features and parameters.
        saved: the last four results of `pool`.
        needed: which inputs need a gradient.
        settings: the head's.
    """
    (to_embedding, to_attributes, to_maps), (embeddings, costs, squares, kept) = pulled, saved
    ratio, gamma = settings.transport_ratio, settings.entropy_weight
    head = Head(inputs, settings)
    weights = (kept / ratio).to(embeddings.dtype)
    assigned = torch.softmax(-gamma * costs, dim=1)  # (B, M, N)
    pulls = _of_pooling(head, to_embedding, embeddings, weights)
    if to_maps is not None:
        pulls.weights = pulls.weights + to_maps.flatten(1)
    to_scores = _of_scores(to_attributes, assigned, weights, kept, pulls, ratio)
    to_points, to_anchors = distance_gradients(
        -gamma * to_scores, embeddings, head.anchors, costs, squares
    )
    if pulls.embeddings is not None:
        to_points += pulls.embeddings
    found = [
        *_of_embedding(head, to_points, pulls, needed),
        prototype_gradient(to_anchors, inputs[3]) if needed[3] else None,
        pulls.power,
    ]
    return [
        _like(gradient, given) if wanted and given is not None else None
        for gradient, given, wanted in zip(found, inputs, needed, strict=True)
    ]


def _weighted_shares(assigned: Tensor, weights: Tensor) -> Tensor:
    """Average the soft assignments `(B, M, N)` with the mixing weights: `(B, M)`, sums to 1."""
    shares = weights / weights.sum(dim=1, keepdim=True)
    return torch.matmul(assigned, shares[:, :, None]).squeeze(2)


def _of_pooling(head: Head, gradient: Tensor | None, embeddings: Tensor, weights: Tensor) -> Pulls:
    """Return the gradients that go through the embedding."""
    if gradient is None:
        return Pulls(torch.zeros_like(weights))
    if head.settings.normalize:
        pooled = head.reduction.forward(head.locations, embeddings, weights)
        norm = _floored_norm(pooled)
        unit = pooled / norm
        along = (unit * gradient).sum(dim=1, keepdim=True)
        is_floored = norm <= NORM_FLOOR
        gradient = torch.where(is_floored, gradient, gradient - unit * along) / norm
    return head.reduction.backward(gradient, head.locations, embeddings, weights)


def _of_scores(
    to_attributes: Tensor | None,
    assigned: Tensor,
    weights: Tensor,
    kept: Tensor,
    pulls: Pulls,
    ratio: float,
) -> Tensor:
    """Return the gradient of the scores `(B, M, N)`: through the weights and the attributes."""
    to_weights = pulls.weights
    if to_attributes is None:
        return assigned * log_mass_gradient(to_weights, kept, ratio)[:, None]
    total = weights.sum(dim=1, keepdim=True)
    shares = weights / total
    to_shares = torch.bmm(to_attributes[:, None], assigned).squeeze(1)  # (B, N)
    centre = (to_shares * shares).sum(dim=1, keepdim=True)
    to_weights = to_weights + (to_shares - centre) / total
    to_log_mass = log_mass_gradient(to_weights, kept, ratio) - shares * to_shares
    direct = to_attributes[:, :, None] * shares[:, None] + to_log_mass[:, None]
    return assigned * direct


def _of_embedding(
    head: Head, to_points: Tensor, pulls: Pulls, needed: Sequence[bool]
) -> list[Tensor | None]:
    """Return the gradients of locations, W and b."""
    weight, bias = head.embed.weight, head.embed.bias
    mask = [needed[0], needed[1], needed[2] and bias is not None]
    through: Sequence[Tensor | None] = torch.ops.aten.convolution_backward(
        to_points, head.locations, weight[:, :, None], [len(weight)],
        [1], [0], [1], False, [0], 1, mask,
    )  # fmt: skip
    beside = (pulls.locations, pulls.weight, pulls.bias)
    return [
        None
        if first is None
        else (first if second is None else first.reshape(second.shape) + second)
        for first, second in zip(through, beside, strict=True)
    ]


def _floored_norm(vectors: Tensor) -> Tensor:
    return vectors.norm(dim=1, keepdim=True).clamp(min=NORM_FLOOR)


def _like(gradient: Tensor | None, given: Tensor) -> Tensor:
    if gradient is None:
        return torch.zeros_like(given, memory_format=torch.contiguous_format)
    return gradient.reshape(given.shape).to(given.dtype).contiguous()
