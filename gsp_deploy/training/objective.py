"""Compute the training loss: a metric loss with miner and memory, and the zero-shot loss."""

from __future__ import annotations

from typing import Any, NamedTuple

from pytorch_metric_learning import losses, miners
from pytorch_metric_learning.distances import CosineSimilarity, LpDistance
from pytorch_metric_learning.reducers import SumReducer
from torch import Tensor, nn

from gsp_deploy.layers import PoolingOutput
from gsp_deploy.layers.losses import ZeroShotLoss
from gsp_deploy.training.loss_sections import (
    BatchHardMinerSection,
    ContrastiveSection,
    CosineContrastiveSection,
    LossSection,
    MinerSection,
    MultiSimilarityMinerSection,
    MultiSimilaritySection,
    ProxyAnchorSection,
    ProxyNcaSection,
    SemiHardMinerSection,
    TripletMarginMinerSection,
    TripletSection,
)
from gsp_deploy.training.recipe import Recipe


class Losses(NamedTuple):
    """Scalars: the total loss and its parts; `zsr` is None if the zero-shot loss is not used."""

    total: Tensor
    metric: Tensor
    zsr: Tensor | None


class Objective(nn.Module):
    """The losses of a recipe over one whole batch.

    Its state dict contains all that a resumed run needs: proxies, class embeddings, and the
    cross-batch memory with its position.

    Args:
        recipe: the losses and their settings.
        num_classes: number of training classes.
    """

    def __init__(self, recipe: Recipe, num_classes: int) -> None:
        super().__init__()
        dim = recipe.head.embedding_dim
        self.metric = _metric_loss(recipe.loss, num_classes, dim)
        self.miner = _miner(recipe.miner)
        self.memory_start = recipe.xbm.start
        self.memory = (
            losses.CrossBatchMemory(self.metric, dim, recipe.xbm.size, self.miner)
            if recipe.xbm.size
            else None
        )
        self.zsr_weight = recipe.zsr.weight
        self.zsr = (
            ZeroShotLoss(dim, num_classes, recipe.zsr.ridge, recipe.zsr.softmax_scale)
            if recipe.uses_zsr
            else None
        )

    def forward(self, output: PoolingOutput, labels: Tensor, step: int) -> Losses:
        """Return the losses of a batch at a step; the memory is used from step `xbm.start` on."""
        metric = self._metric(output.embedding, labels, step)
        if self.zsr is None or output.attributes is None:
            return Losses(metric, metric, None)
        zsr = self.zsr(output.attributes, labels)
        return Losses((1 - self.zsr_weight) * metric + self.zsr_weight * zsr, metric, zsr)

    def class_vectors(self) -> Tensor:
        """Return one vector per class, `(classes, D)`: the proxies, or ZSR's class embeddings."""
        if hasattr(self.metric, "proxies"):
            return self.metric.proxies.detach()
        assert self.zsr is not None  # Recipe checks that one of the two exists
        return self.zsr.class_embeddings.detach()

    def get_extra_state(self) -> dict[str, Any]:
        """Return the memory's position, because pytorch-metric-learning does not save it."""
        if self.memory is None:
            return {}
        return {"place": self.memory.queue_idx, "full": self.memory.has_been_filled}

    def set_extra_state(self, state: Any) -> None:
        """Restore the memory's position."""
        if self.memory is not None:
            self.memory.queue_idx = state["place"]
            self.memory.has_been_filled = state["full"]

    def _metric(self, embeddings: Tensor, labels: Tensor, step: int) -> Tensor:
        loss: Tensor
        if self.memory is not None and step >= self.memory_start:
            loss = self.memory(embeddings, labels)
        else:
            mined = None if self.miner is None else self.miner(embeddings, labels)
            loss = self.metric(embeddings, labels, mined)
        return loss


class SumPerImage(SumReducer):
    """The sum over all pairs, divided by the number of images in the batch."""

    def element_reduction(self, losses: Tensor, *context: Any) -> Tensor:
        """Reduce the losses of pairs; `context` is (indices, embeddings, labels)."""
        embeddings: Tensor = context[1]
        total: Tensor = super().element_reduction(losses, *context)
        return total / len(embeddings)


def _metric_loss(section: LossSection, num_classes: int, dim: int) -> Any:
    if isinstance(section, ContrastiveSection):
        return losses.ContrastiveLoss(section.positive_margin, section.negative_margin)
    if isinstance(section, CosineContrastiveSection):
        return losses.ContrastiveLoss(
            section.positive_margin,
            section.negative_margin,
            distance=CosineSimilarity(),
            reducer=SumPerImage(),
        )
    if isinstance(section, TripletSection):
        return losses.TripletMarginLoss(section.margin, section.swap, section.smooth)
    if isinstance(section, MultiSimilaritySection):
        return losses.MultiSimilarityLoss(section.alpha, section.beta, section.base)
    if isinstance(section, ProxyAnchorSection):
        return losses.ProxyAnchorLoss(num_classes, dim, section.margin, section.alpha)
    assert isinstance(section, ProxyNcaSection)
    return losses.ProxyNCALoss(num_classes, dim, softmax_scale=section.softmax_scale)


def _miner(section: MinerSection) -> Any:
    if isinstance(section, MultiSimilarityMinerSection):
        return miners.MultiSimilarityMiner(section.epsilon)
    if isinstance(section, BatchHardMinerSection):
        return miners.BatchHardMiner()
    if isinstance(section, SemiHardMinerSection):
        return miners.BatchEasyHardMiner(pos_strategy="easy", neg_strategy="semihard")
    if isinstance(section, TripletMarginMinerSection):
        return miners.TripletMarginMiner(
            section.margin, section.triplets, distance=LpDistance(normalize_embeddings=True)
        )
    return None
