"""Batch norm's running statistics: whether a run is long enough for them, and how to replace them.

In evaluation mode batch norm divides by running statistics: after n steps they hold the share
(1 - momentum)^n of their initial values. With a deep network (RepVGG, say) a few steps leave
activations so far from what the weights were trained with that all embeddings are alike.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from gsp_deploy.model import EmbeddingModel

# Batches that statistics are measured over.
SETTLING_BATCHES = 16
# Running statistics with less than this share of their initial values are as good as measured.
_SETTLED = 0.01


def unsettled_share(model: nn.Module, steps: int) -> float:
    """Return the share of initial values in the running statistics after `steps`, 0 if small.

    Frozen batch norms, and those that average over all steps, count as settled. The model is in
    training mode.
    """
    momenta = [norm.momentum for norm in _running(model) if norm.momentum is not None]
    share = (1 - min(momenta, default=1.0)) ** steps
    return share if share > _SETTLED else 0.0


@torch.no_grad()
def measure_statistics(model: EmbeddingModel, batches: Iterable[Tensor]) -> None:
    """Replace the running statistics by their mean over batches `(B, 3, H, W)`."""
    norms = _running(model)
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # the mean over all batches
    for batch in batches:
        model.features(batch)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum


def _running(model: nn.Module) -> list[nn.modules.batchnorm._BatchNorm]:
    """Return the batch norms that update running statistics."""
    return [
        module
        for module in model.modules()
        if isinstance(module, nn.modules.batchnorm._BatchNorm)
        and module.training
        and module.track_running_stats
    ]
