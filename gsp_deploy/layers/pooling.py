"""Generalized Sum Pooling: pool a feature map to one embedding, and learn what to ignore."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from gsp_deploy.base.constants import GEM_POWER
from gsp_deploy.config import GSPConfig
from gsp_deploy.errors import UsageError
from gsp_deploy.layers.costs import prototype_costs
from gsp_deploy.layers.operator import PUBLIC_OUTPUTS, generalized_sum_pooling
from gsp_deploy.layers.reductions import Embedding
from gsp_deploy.layers.stages import PoolingOutput, PoolingSettings
from gsp_deploy.layers.transport import TransportProblem


class GeneralizedSumPooling(nn.Module):
    """The GSP head (ICCV 2023): 1x1 embedding, partial transport to prototypes, weighted pooling.

    Parameters: `embed.weight (D, C)`, `embed.bias (D)`, `prototypes (M, D)` and, with generalised
    mean pooling, the scalar `power`. It computes in float32 even under autocast (in float64
    for float64 input), because fp16 loses both the cost and the solution. The whole layer is one
    operator of PyTorch, `gsp_deploy::generalized_sum_pooling`, with an analytic gradient:
    `torch.compile`, `torch.export` and `torch.func.vmap` take it as it is.
    """

    prototypes: nn.Parameter
    power: nn.Parameter | None

    def __init__(self, config: GSPConfig) -> None:
        super().__init__()
        self.config = config
        self.problem = TransportProblem.of(config)
        self.embed = nn.Linear(config.in_channels, config.embedding_dim, bias=config.bias)
        self.prototypes = nn.Parameter(torch.empty(config.num_prototypes, config.embedding_dim))
        self.power = nn.Parameter(torch.tensor(GEM_POWER)) if config.pooling == "gem" else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Initialise the parameters as the authors do: Kaiming-normal, fan-out, bias 0."""
        nn.init.kaiming_normal_(self.embed.weight, mode="fan_out")
        nn.init.kaiming_normal_(self.prototypes, mode="fan_out")
        if self.embed.bias is not None:
            nn.init.zeros_(self.embed.bias)

    def forward(self, features: Tensor) -> PoolingOutput:
        """Pool `features (B, C, H, W)`.

        Raises:
            UsageError: the features have another rank or another number of channels.
        """
        check_features(features, self.config.in_channels)
        found = generalized_sum_pooling(
            features,
            self.embed.weight,
            self.embed.bias,
            self.prototypes,
            self.power,
            *PoolingSettings.of(self.config, self.problem),
        )
        return PoolingOutput(*found[:PUBLIC_OUTPUTS])

    def scores(self, features: Tensor) -> Tensor:
        """Return -gamma c of each prototype at each location, `(B, M, H, W)`.

        Their softmax over M is each prototype's share of a location's kept mass.
        """
        check_features(features, self.config.in_channels)
        with torch.autocast(features.device.type, enabled=False):
            working = torch.promote_types(features.dtype, torch.float32)
            scores = self._scores(self._embed_locations(features.flatten(2).to(working)))
        return scores.unflatten(2, features.shape[-2:])

    @torch.no_grad()
    def initialize_prototypes(self, vectors: Tensor) -> None:
        """Set the prototypes by greedy k-centre over `vectors (K, D)`.

        The vectors are class weights (the authors' PyTorch way) or a memory of pooled embeddings
        (their TensorFlow way). With fewer vectors than prototypes, the rest stay as they are.

        Raises:
            UsageError: the vectors are not `(K, D)` with K at least 1.
        """
        expected = self.config.embedding_dim
        if vectors.ndim != 2 or vectors.shape[1] != expected or not len(vectors):
            raise UsageError(
                f"prototypes start from vectors (K, {expected}), got {tuple(vectors.shape)}"
            )
        count = min(self.config.num_prototypes, len(vectors))
        chosen = k_centre(vectors.detach(), count)
        self.prototypes[:count] = vectors[chosen].to(self.prototypes)

    def _embed_locations(self, locations: Tensor) -> Tensor:
        embed = Embedding.of(self.embed.weight, self.embed.bias, locations.dtype)
        return embed.of_locations(locations)

    def _scores(self, embeddings: Tensor) -> Tensor:
        costs = prototype_costs(embeddings, self.prototypes.to(embeddings.dtype))
        return -self.config.entropy_weight * costs


def k_centre(vectors: Tensor, count: int) -> list[int]:
    """Return the indices that greedy k-centre picks: the first, then always the farthest one."""
    chosen = [0]
    nearest = (vectors - vectors[0]).square().sum(dim=1)
    while len(chosen) < count:
        farthest = int(nearest.argmax())
        chosen.append(farthest)
        nearest = torch.minimum(nearest, (vectors - vectors[farthest]).square().sum(dim=1))
    return chosen


def check_features(features: Tensor, channels: int) -> None:
    if features.ndim != 4 or features.shape[1] != channels or 0 in features.shape[2:]:
        raise UsageError(
            f"expected features of shape (batch, {channels}, height, width), "
            f"got {tuple(features.shape)}"
        )
