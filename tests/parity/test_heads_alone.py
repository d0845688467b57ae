"""Pooling heads without a backbone: quick to export, so every solver and precision is compared."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from gsp_deploy import EmbeddingModel, GSPConfig, ModelConfig
from gsp_deploy.checkpoint import save_checkpoint
from gsp_deploy.export import ExportOptions, export_onnx
from gsp_deploy.parity import compare_sessions, open_rounding, tolerances_for
from gsp_deploy.parity.layers import compare_layers
from gsp_deploy.runtime import open_session

EXPORTS = {
    "newton": ExportOptions(solver="newton", iterations=8, outputs=("attributes", "weights")),
    "certified": ExportOptions(outputs=("attributes", "weights")),
    "fixed": ExportOptions(solver="fixed-point", iterations=100, outputs=("attributes", "weights")),
    "fixed_short": ExportOptions(
        solver="fixed-point", iterations=3, outputs=("attributes", "weights")
    ),
    "fp16": ExportOptions(precision="fp16", outputs=("attributes", "weights")),
    "bf16": ExportOptions(precision="bf16", outputs=("attributes", "weights")),
}


@pytest.fixture(scope="module")
def heads(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same head as a checkpoint and in every form of `EXPORTS`."""
    folder = tmp_path_factory.mktemp("heads")
    torch.manual_seed(0)
    head = GSPConfig(
        16, embedding_dim=8, num_prototypes=4, transport_ratio=0.6, entropy_weight=10.0,
        solver="newton",
    )  # fmt: skip
    model = EmbeddingModel(ModelConfig("features", head, None)).eval()
    with torch.no_grad():  # prototypes among the locations, so that the weights differ much
        locations = torch.rand(4, 16).abs()
        model.head.embed.weight.mul_(0.2)
        model.head.prototypes.copy_(model.head.embed(locations))
    save_checkpoint(model, folder / "model.safetensors")
    for name, options in EXPORTS.items():
        export_onnx(model, folder / f"{name}.onnx", options)
    return folder


@pytest.fixture(scope="module")
def features() -> np.ndarray:
    draw = np.random.default_rng(6)
    return np.abs(draw.standard_normal((24, 16, 5, 5))).astype(np.float32)


@pytest.mark.parametrize("name", ["newton", "certified", "fixed", "fp16", "bf16"])
def test_sound_forms_pass(heads: Path, features: np.ndarray, name: str) -> None:
    with (
        open_session(heads / "model.safetensors") as reference,
        open_rounding(heads / f"{name}.onnx") as candidate,
    ):
        report = compare_sessions(reference, candidate, features)
    assert [gate for gate in report.gates if not gate.passed] == []
    expected = name if name in ("fp16", "bf16") else "fp32"
    assert report.tolerances == tolerances_for(expected)


def test_a_solver_stopped_too_soon_fails_on_its_weights(heads: Path, features: np.ndarray) -> None:
    with (
        open_session(heads / "model.safetensors") as reference,
        open_session(heads / "fixed_short.onnx") as candidate,
    ):
        report = compare_sessions(reference, candidate, features)
    failed = {gate.name for gate in report.gates if not gate.passed}
    assert {"max_weight_error", "max_marginal_error"} <= failed


@pytest.mark.parametrize(
    ("reference", "candidate"),
    [
        ("newton", "fixed"),
        ("certified", "fp16"),
        ("certified", "bf16"),
        ("certified", "newton"),
        ("fixed", "newton"),
    ],
)
def test_forms_of_one_head_agree_along_the_graph(
    heads: Path, features: np.ndarray, reference: str, candidate: str
) -> None:
    report = compare_layers(heads / f"{reference}.onnx", heads / f"{candidate}.onnx", features)
    assert report.first is None
    assert {"gsp/log_mass", "gsp/logit", "weights", "embedding"} <= {n.value for n in report.nodes}


def test_where_a_solver_is_too_short_the_solver_is_named(heads: Path, features: np.ndarray) -> None:
    report = compare_layers(heads / "fixed.onnx", heads / "fixed_short.onnx", features)
    assert report.first is not None
    assert report.first.node == "gsp/logit"
    before = [node for node in report.nodes if node.value.startswith("gsp/fixed_point_")]
    assert len(before) == 3
    assert all(node.error == 0 for node in before)


def test_inside_a_step_only_its_result_is_compared(heads: Path, features: np.ndarray) -> None:
    """Once converged, the distance from the root is noise in any precision."""
    report = compare_layers(heads / "newton.onnx", heads / "newton.onnx", features)
    inside = [node.value for node in report.nodes if "newton_" in node.value]
    assert inside == [f"gsp/newton_{step}/beta" for step in range(1, 9)]


def test_nothing_inside_the_certified_solver_is_compared(heads: Path, features: np.ndarray) -> None:
    """Two precisions may sweep into neighbouring cells, and still end at the same root."""
    report = compare_layers(heads / "certified.onnx", heads / "bf16.onnx", features)
    values = [node.value for node in report.nodes]
    assert not [value for value in values if "/certified_" in value or "/sweep/" in value]
    assert {"gsp/log_mass", "gsp/kept"} <= set(values)
