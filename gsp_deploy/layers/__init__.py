"""The pooling layers: Generalized Sum Pooling, and the baselines to compare it with."""

from __future__ import annotations

from gsp_deploy.layers.baselines import BaselinePooling
from gsp_deploy.layers.pooling import GeneralizedSumPooling, PoolingOutput

__all__ = ["BaselinePooling", "GeneralizedSumPooling", "PoolingOutput"]
