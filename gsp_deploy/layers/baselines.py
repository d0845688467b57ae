"""Conventional global poolings with the same 1x1 embedding, to compare GSP with."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gsp_deploy.base.constants import GEM_POWER, NORM_FLOOR
from gsp_deploy.config import BaselineConfig
from gsp_deploy.layers.pooling import PoolingOutput, check_features
from gsp_deploy.layers.reductions import Embedding, generalised_mean


class BaselinePooling(nn.Module):
    """Average, max, generalised-mean, or average-plus-max pooling, then the 1x1 embedding."""

    def __init__(self, config: BaselineConfig) -> None:
        super().__init__()
        self.config = config
        self.embed = nn.Linear(config.in_channels, config.embedding_dim, bias=config.bias)
        self.power = nn.Parameter(torch.tensor(GEM_POWER)) if config.pooling == "gem" else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the parameters as `GeneralizedSumPooling` does."""
        nn.init.kaiming_normal_(self.embed.weight, mode="fan_out")
        if self.embed.bias is not None:
            nn.init.zeros_(self.embed.bias)

    def forward(self, features: Tensor) -> PoolingOutput:
        """Pool `features (B, C, H, W)`; there are no attributes and no weights."""
        check_features(features, self.config.in_channels)
        with torch.autocast(features.device.type, enabled=False):
            working = torch.promote_types(features.dtype, torch.float32)
            embed = Embedding.of(self.embed.weight, self.embed.bias, working)
            embedding = embed.of_vector(self._pool(features.flatten(2).to(working)))
            if self.config.normalize:
                embedding = F.normalize(embedding, dim=1, eps=NORM_FLOOR)
        return PoolingOutput(embedding, None, None)

    def _pool(self, locations: Tensor) -> Tensor:
        if self.config.pooling == "gap":
            return locations.mean(dim=2)
        if self.config.pooling == "gmp":
            return locations.amax(dim=2)
        if self.config.pooling == "gem":
            assert self.power is not None
            return generalised_mean(locations, self.power)
        return locations.mean(dim=2) + locations.amax(dim=2)
