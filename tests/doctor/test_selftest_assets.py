"""The files of the self-test: the authors' recorded outputs, and a head with their weights.

`python tests/doctor/test_selftest_assets.py` writes the head again, after a change of the export.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import numpy_helper

from gsp_deploy import EmbeddingModel, GSPConfig
from gsp_deploy.config import FEATURES, ModelConfig
from gsp_deploy.doctor.selftest import ASSETS
from gsp_deploy.export import Calibration, ExportOptions, export_onnx

GOLDEN = Path(__file__).parents[1] / "golden" / "pytorch_gap_mu0.3_gamma5.0_k100.npz"
STORED = ("features", "embedding", "attributes", "weights")


def write_head(path: Path) -> None:
    """Export the head that the authors' vectors were recorded with."""
    case = np.load(GOLDEN)
    dim, channels = case["embed_weight"].shape
    config = GSPConfig(
        in_channels=channels,
        embedding_dim=dim,
        num_prototypes=len(case["prototypes"]),
        transport_ratio=round(float(case["transport_ratio"]), 6),
        entropy_weight=float(case["entropy_weight"]),
    )
    model = EmbeddingModel(ModelConfig(FEATURES, config, None)).eval()
    names = {"embed.weight": "embed_weight", "embed.bias": "embed_bias", "prototypes": "prototypes"}
    model.head.load_state_dict({to: torch.from_numpy(case[name]) for to, name in names.items()})
    calibration = Calibration(case["features"], "the authors' golden features", None)
    options = ExportOptions(outputs=("attributes", "weights"))
    export_onnx(model, path, options, calibration)


def test_the_embeddings_are_the_authors() -> None:
    recorded = np.load(GOLDEN)
    with np.load(ASSETS / "selftest.npz") as shipped:
        assert set(shipped.files) == set(STORED)
        for name in shipped.files:
            np.testing.assert_array_equal(shipped[name], recorded[name])


def test_the_head_is_what_export_writes(tmp_path: Path) -> None:
    write_head(tmp_path / "head.onnx")
    fresh = onnx.load(tmp_path / "head.onnx").graph
    shipped = onnx.load(ASSETS / "selftest.onnx").graph
    operators = [Counter(node.op_type for node in graph.node) for graph in (shipped, fresh)]
    assert operators[0] == operators[1]
    stored = {weight.name: numpy_helper.to_array(weight) for weight in shipped.initializer}
    assert stored.keys() == {weight.name for weight in fresh.initializer}
    for weight in fresh.initializer:
        np.testing.assert_array_equal(stored[weight.name], numpy_helper.to_array(weight))


if __name__ == "__main__":
    write_head(ASSETS / "selftest.onnx")
    (ASSETS / "selftest.onnx.json").unlink()
