"""Everything is computed where the features are: on CUDA tensors without CUDA, which have devices
and shapes and no numbers.
"""

from __future__ import annotations

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from gsp_deploy import BaselineConfig, EmbeddingModel, GSPConfig, ModelConfig
from gsp_deploy.layers.losses import ZeroShotLoss

CUDA = torch.device("cuda", 0)
HEADS: dict[str, GSPConfig | BaselineConfig] = {
    f"{solver}, {pooling}{', residual' if residual else ''}": GSPConfig(
        6, 5, 4, solver=solver, pooling=pooling, max_residual=residual
    )
    for solver in ("newton", "fixed-point")
    for pooling in ("gap", "gmp", "gem")
    for residual in (False, True)
}
HEADS |= {pooling: BaselineConfig(6, 5, pooling) for pooling in ("gap", "gmp", "gem", "gap+gmp")}


@pytest.mark.parametrize("name", HEADS)
@pytest.mark.parametrize("training", [True, False])
def test_a_head_stays_on_its_device(name: str, training: bool) -> None:
    with FakeTensorMode(), CUDA:
        model = EmbeddingModel(ModelConfig("features", HEADS[name], None)).train(training)
        features = torch.rand(4, 6, 3, 5)
    with features.fake_mode:
        found = model(features)
    assert {tensor.device for tensor in model.state_dict().values()} == {CUDA}
    assert {tensor.device for tensor in found if tensor is not None} == {CUDA}
    assert found.embedding.shape == (4, 5)


def test_the_zero_shot_loss_stays_on_its_device() -> None:
    with FakeTensorMode(), CUDA:
        loss = ZeroShotLoss(5, 3)
        attributes, labels = torch.rand(8, 4), torch.zeros(8, dtype=torch.long)
    with attributes.fake_mode:
        assert loss(attributes, labels).device == CUDA


def test_tensors_left_on_the_cpu_are_detected() -> None:
    with FakeTensorMode() as fake:
        features = torch.rand(4, 6, device=CUDA)
    with fake, pytest.raises(RuntimeError, match="cpu"):
        features + torch.rand(4, 6)
