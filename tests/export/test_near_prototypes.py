"""Trained features: exported heads and the layer keep the default tolerance near prototypes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from near_prototypes import near_prototypes

from gsp_deploy import EmbeddingModel, GSPConfig, ModelConfig, open_session
from gsp_deploy.bounds import DEFAULT_TOLERANCE
from gsp_deploy.export import Calibration, ExportOptions, export_onnx
from gsp_deploy.reference import exact_weights, log_mass_of, relative_weight_error

RATIO = 0.3


def head_of(prototypes: np.ndarray, gamma: float) -> EmbeddingModel:
    """Return a head whose embedding is the identity, D = 64, M = 32."""
    count, dim = prototypes.shape
    config = GSPConfig(dim, dim, count, transport_ratio=RATIO, entropy_weight=gamma)
    model = EmbeddingModel(ModelConfig("features", config, None)).eval()
    with torch.no_grad():
        model.head.embed.weight.copy_(torch.eye(dim))
        model.head.embed.bias.zero_()
        model.head.prototypes.copy_(torch.from_numpy(prototypes))
    return model


@pytest.mark.parametrize("form", ["unrolled", "plugin"])
@pytest.mark.parametrize("gamma", [5.0, 20.0, 50.0, 100.0])
def test_weights_are_within_the_tolerance(gamma: float, form: str, tmp_path: Path) -> None:
    """5 to 80 % of the locations are at cosines of 0.3 to 1 to a prototype."""
    prototypes, _ = near_prototypes(0, 0.5)
    model = head_of(prototypes, gamma)
    calibration = Calibration(np.zeros((1, 64, 7, 7), np.float32), "zeros", None)
    options = ExportOptions(outputs=("weights",), pooling_form=form)
    path = export_onnx(model, tmp_path / "m.onnx", options, calibration).path
    worst = 0.0
    with open_session(path) as session:
        for share in (0.05, 0.3, 0.8):
            same, points = near_prototypes(0, share)
            np.testing.assert_array_equal(same, prototypes)
            exact = exact_weights(log_mass_of(points, prototypes, gamma), RATIO)
            maps = points.reshape(len(points), 64, 7, 7)
            with torch.no_grad():
                of_layer = model.head(torch.from_numpy(maps)).weights.numpy()
            for found in (session.run(maps)["weights"], of_layer):
                worst = max(worst, float(relative_weight_error(found, exact, RATIO).max()))
    assert 0 < worst <= DEFAULT_TOLERANCE
