"""The zero-shot regularisation loss that keeps attributes predictive of unseen classes."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from gsp_deploy.errors import UsageError

# The reference adds 1e-16 to the probability before its logarithm, which bounds the loss of one
# sample by 36.8. It is kept here because it bounds the gradient too.
_LOG_PROBABILITY_FLOOR = math.log(1e-16)


class ZeroShotLoss(nn.Module):
    """Predict class embeddings of one half of the batch from the other half's attributes.

    Ridge regression from attributes to class embeddings is fitted on one half, predicts the
    other, and the reverse; the loss is the cross-entropy over classes of
    `softmax_scale * <class embedding, prediction>` (paper, section 4.3).

    Args:
        embedding_dim: length of a class embedding.
        num_classes: number of training classes.
        ridge: regularisation of the regression.
        softmax_scale: inverse temperature of the softmax.
    """

    def __init__(
        self,
        embedding_dim: int,
        num_classes: int,
        ridge: float = 0.05,
        softmax_scale: float = 9.5,
    ) -> None:
        super().__init__()
        self.ridge = ridge
        self.softmax_scale = softmax_scale
        self.class_embeddings = nn.Parameter(torch.empty(num_classes, embedding_dim))
        nn.init.kaiming_normal_(self.class_embeddings, mode="fan_out")

    def forward(self, attributes: Tensor, labels: Tensor) -> Tensor:
        """Return the scalar loss of `attributes (B, M)` and class indices `labels (B,)`, B >= 2."""
        labels = labels.flatten()
        if len(labels) != len(attributes) or len(labels) < 2:
            raise UsageError(
                "the zero-shot loss needs at least 2 attributes and as many labels, "
                f"got {len(attributes)} and {len(labels)}"
            )
        with torch.autocast(attributes.device.type, enabled=False):
            classes = self.class_embeddings
            samples = attributes.to(classes.dtype)
            predictions = self._predict_across_halves(samples, classes[labels])
            log_probabilities = torch.log_softmax(
                self.softmax_scale * predictions @ classes.T, dim=1
            )
            hit = log_probabilities.gather(1, labels[:, None])
            return -torch.logaddexp(hit, hit.new_tensor(_LOG_PROBABILITY_FLOOR)).mean()

    def _predict_across_halves(self, samples: Tensor, targets: Tensor) -> Tensor:
        half = len(samples) // 2
        first, second = samples[:half], samples[half:]
        to_first = self._regress(second, targets[half:], first)
        to_second = self._regress(first, targets[:half], second)
        return torch.cat([to_first, to_second])

    def _regress(self, inputs: Tensor, targets: Tensor, queries: Tensor) -> Tensor:
        """Ridge regression in its dual form, because the batch is smaller than the attributes."""
        gram = inputs @ inputs.T + self.ridge * torch.eye(len(inputs)).to(inputs)
        return queries @ inputs.T @ torch.linalg.solve(gram, targets)
