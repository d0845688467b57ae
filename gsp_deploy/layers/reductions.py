"""Reduce weighted locations to the pooled vector, and the gradients of that, by hand.

Without a graph of autograd, nothing of the size of the maps is kept between forward and backward.
Locations x are `(B, C, N)`, their embeddings f `(B, D, N)`, weights w `(B, N)`.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from gsp_deploy.base.constants import GEM_FLOOR


@dataclass(frozen=True)
class Embedding:
    """The 1x1 embedding: W `(D, C)`, b `(D,)` or None."""

    weight: Tensor
    bias: Tensor | None

    @classmethod
    def of(cls, weight: Tensor, bias: Tensor | None, dtype: torch.dtype) -> Embedding:
        """Return the embedding by these parameters in a precision."""
        return cls(weight.to(dtype), None if bias is None else bias.to(dtype))

    def of_locations(self, locations: Tensor) -> Tensor:
        """Return W x_i + b, `(B, D, N)`."""
        return F.conv1d(locations, self.weight[:, :, None], self.bias).contiguous()

    def of_vector(self, pooled: Tensor, with_bias: bool = True) -> Tensor:
        """Return W v (+ b) for `(B, C)`, `(B, D)`."""
        return F.linear(pooled, self.weight, self.bias if with_bias else None)


@dataclass
class Pulls:
    """Gradients that the reduction collects; None is 0.

    Attributes:
        weights: of w, `(B, N)`.
        embeddings: of f, `(B, D, N)`, only with `gap`.
        locations: of x, `(B, C, N)`, apart from what goes through f.
        weight, bias: of W and b, apart from what goes through f.
        power: of the generalised mean's power.
    """

    weights: Tensor
    embeddings: Tensor | None = None
    locations: Tensor | None = None
    weight: Tensor | None = None
    bias: Tensor | None = None
    power: Tensor | None = None


@dataclass(frozen=True)
class Reduction:
    """Pools with `gap`, `gmp` or `gem`, and adds the max residual W max_i x_i if it is on."""

    pooling: str
    max_residual: bool
    embed: Embedding
    power: Tensor | None

    def forward(self, locations: Tensor, embeddings: Tensor, weights: Tensor) -> Tensor:
        """Return the pooled vector before its normalisation, `(B, D)`."""
        if self.pooling == "gap":
            pooled = weighted_mean(embeddings, weights)
        else:
            pooled = self.embed.of_vector(self._reduced(locations * weights[:, None]))
        if self.max_residual:
            pooled = pooled + self.embed.of_vector(locations.amax(dim=2), with_bias=False)
        return pooled

    def backward(
        self, gradient: Tensor, locations: Tensor, embeddings: Tensor, weights: Tensor
    ) -> Pulls:
        """Return the gradients, from that of the pooled vector `(B, D)`."""
        if self.pooling == "gap":
            share = gradient[:, :, None] / embeddings.shape[2]  # (B, D, 1)
            along = torch.bmm(share.transpose(1, 2), embeddings).squeeze(1)
            pulls = Pulls(along, embeddings=share * weights[:, None])
        else:
            pulls = self._backward_of_features(gradient, locations, weights)
        if self.max_residual:
            peak = locations.amax(dim=2)
            to_peak = gradient @ self.embed.weight
            pulls.locations = _sum(pulls.locations, _to_largest(to_peak, locations, peak))
            pulls.weight = _sum(pulls.weight, gradient.T @ peak)
        return pulls

    def _reduced(self, weighted: Tensor) -> Tensor:
        if self.pooling == "gmp":
            return weighted.amax(dim=2)
        assert self.power is not None
        return generalised_mean(weighted, self.power)

    def _backward_of_features(self, gradient: Tensor, locations: Tensor, weights: Tensor) -> Pulls:
        weighted = locations * weights[:, None]  # (B, C, N)
        reduced, to_reduced = self._reduced(weighted), gradient @ self.embed.weight  # (B, C)
        power = None
        if self.pooling == "gmp":
            to_weighted = _to_largest(to_reduced, weighted, reduced)
        else:
            assert self.power is not None
            to_weighted, power = _mean_gradients(to_reduced, weighted, reduced, self.power)
        return Pulls(
            weights=(to_weighted * locations).sum(dim=1),
            locations=to_weighted * weights[:, None],
            weight=gradient.T @ reduced,
            bias=gradient.sum(dim=0),
            power=power,
        )


def weighted_mean(values: Tensor, weights: Tensor) -> Tensor:
    """Return mean_i w_i f_i, `(B, D)`, as a matrix-vector product."""
    return torch.bmm(values, weights[:, :, None]).squeeze(2) / values.shape[2]


def generalised_mean(values: Tensor, power: Tensor) -> Tensor:
    """Return (mean_i max(v_i, 1e-6)^p)^(1/p) over the last axis.

    The values are divided by the largest, so that no power can overflow or vanish.
    """
    floored = values.clamp(min=GEM_FLOOR)
    peak = floored.detach().amax(dim=-1, keepdim=True)
    exponent = power.to(values.dtype).reshape(())
    mean = (floored / peak).pow(exponent).mean(dim=-1)
    return peak.squeeze(-1) * mean.pow(1 / exponent)


def _mean_gradients(
    gradient: Tensor, values: Tensor, mean: Tensor, power: Tensor
) -> tuple[Tensor, Tensor]:
    """Return the gradients of values and power, from that `(B, C)` of `generalised_mean`.

    With m the mean and v a value: dm/dv = (v / m)^(p - 1) / N and
    dm/dp = m (mean_i (v_i / m)^p log(v_i / m)) / p.
    """
    exponent = power.to(values.dtype).reshape(())
    relative = values.clamp(min=GEM_FLOOR) / mean[:, :, None]
    to_values = gradient[:, :, None] * relative.pow(exponent - 1) / values.shape[2]
    spread = (relative.pow(exponent) * relative.log()).mean(dim=2)
    to_power = (gradient * mean * spread).sum() / exponent
    return torch.where(values >= GEM_FLOOR, to_values, 0), to_power.reshape(power.shape)


def _to_largest(gradient: Tensor, values: Tensor, peak: Tensor) -> Tensor:
    """Give the maximum's gradient `(B, C)` to the largest values, in equal parts."""
    largest = values == peak[:, :, None]
    return torch.where(largest, (gradient / largest.sum(dim=2))[:, :, None], 0)


def _sum(first: Tensor | None, second: Tensor) -> Tensor:
    return second if first is None else first + second
