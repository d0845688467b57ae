"""A network of one's own with two GSP layers, layers after them, and several outputs."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from gsp_deploy import GeneralizedSumPooling, GSPConfig


class TwoHeads(nn.Module):
    """Two GSP layers at two depths, then a BN neck and a projection, and outputs of both."""

    def __init__(self, **settings: object) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.early, self.late = nn.Conv2d(3, 8, 3, stride=2), nn.Conv2d(8, 12, 3)
        self.first = GeneralizedSumPooling(GSPConfig(8, 6, 5, **settings))
        self.second = GeneralizedSumPooling(
            GSPConfig(12, 7, 4, transport_ratio=0.5, entropy_weight=2.0, **settings)
        )
        self.neck, self.projection = nn.BatchNorm1d(13), nn.Linear(13, 9)
        for layer in (self.first, self.second):
            if layer.embed.bias is not None:
                nn.init.normal_(layer.embed.bias)

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        features = self.early(images).relu()
        first, second = self.first(features), self.second(self.late(features).relu())
        joined = torch.cat([first.embedding, second.embedding], dim=1)
        embedding = self.projection(self.neck(joined))
        return embedding, second.attributes, first.weights, first[4], second.residual
