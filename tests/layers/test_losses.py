"""The zero-shot regularisation loss against the authors', and against itself."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from gsp_deploy.errors import UsageError
from gsp_deploy.layers.losses import ZeroShotLoss


def test_loss_and_gradients_equal_the_authors(golden: Path) -> None:
    case = np.load(golden / "zsr_loss.npz")
    loss = ZeroShotLoss(embedding_dim=8, num_classes=6)
    with torch.no_grad():
        loss.class_embeddings.copy_(torch.from_numpy(case["class_embeddings"]))
    attributes = torch.from_numpy(case["attributes"]).requires_grad_()
    value = loss(attributes, torch.from_numpy(case["labels"]))
    value.backward()
    assert value.item() == pytest.approx(float(case["loss"]), rel=1e-5)
    for found, name in (
        (attributes.grad, "grad_attributes"),
        (loss.class_embeddings.grad, "grad_class_embeddings"),
    ):
        expected = case[name]
        assert np.abs(found.numpy() - expected).max() / np.abs(expected).max() < 2e-5


def test_gradcheck_with_an_odd_batch() -> None:
    torch.manual_seed(0)
    loss = ZeroShotLoss(embedding_dim=3, num_classes=4).double()
    attributes = torch.rand(5, 6, dtype=torch.float64, requires_grad=True)
    labels = torch.tensor([0, 1, 2, 3, 0])
    assert torch.autograd.gradcheck(
        lambda a, _: loss(a, labels), (attributes, loss.class_embeddings)
    )


def test_attributes_that_determine_the_class_make_the_loss_small() -> None:
    """With one-hot attributes per class the regression predicts the class embedding itself."""
    loss = ZeroShotLoss(embedding_dim=16, num_classes=4)
    with torch.no_grad():
        loss.class_embeddings.copy_(2 * torch.eye(4, 16))
    labels = torch.tensor([0, 1, 2, 3] * 4)
    informative = torch.eye(4)[labels]
    useless = torch.full((16, 4), 0.25)
    assert loss(informative, labels) < 0.01
    assert loss(useless, labels) > 1.0


def test_class_attributes_of_an_unseen_half_stay_finite() -> None:
    loss = ZeroShotLoss(embedding_dim=4, num_classes=2)
    value = loss(torch.zeros(6, 3, requires_grad=True), torch.tensor([0, 0, 0, 1, 1, 1]))
    value.backward()
    assert torch.isfinite(value)


@pytest.mark.parametrize("sizes", [(1, 1), (4, 3)])
def test_too_few_samples_are_refused(sizes: tuple[int, int]) -> None:
    with pytest.raises(UsageError, match="at least 2 attributes"):
        ZeroShotLoss(4, 2)(torch.rand(sizes[0], 3), torch.zeros(sizes[1], dtype=torch.long))
