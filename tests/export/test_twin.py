"""The twin against PyTorch's own average pooling with the same weights."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from gsp_deploy import EmbeddingModel, GSPConfig, ModelConfig, open_session
from gsp_deploy.checkpoint import load_checkpoint
from gsp_deploy.errors import ModelFileError
from gsp_deploy.export import ExportOptions, export_onnx
from gsp_deploy.export.twin import average_pooling_of, write_twin
from gsp_deploy.layers import BaselinePooling

FLOAT32 = 1e-5
FLOAT16 = 5e-3
BFLOAT16 = 3e-2


def head_alone(**settings: object) -> EmbeddingModel:
    torch.manual_seed(0)
    head = GSPConfig(16, embedding_dim=8, num_prototypes=4, solver="newton", **settings)
    return EmbeddingModel(ModelConfig("features", head, None)).eval()


def baseline_of(model: EmbeddingModel) -> EmbeddingModel:
    """Average pooling in PyTorch, with the model's own backbone and embedding."""
    baseline = BaselinePooling(average_pooling_of(model.config.head))
    baseline.embed.load_state_dict(model.head.embed.state_dict())
    twin = EmbeddingModel(replace(model.config, head=baseline.config))
    twin.backbone, twin.head = model.backbone, baseline
    return twin.eval()


def embeddings(path: Path, inputs: np.ndarray) -> np.ndarray:
    with open_session(path) as session:
        return session.embed(inputs)


@torch.no_grad()
def expected(model: EmbeddingModel, inputs: np.ndarray) -> np.ndarray:
    return baseline_of(model)(torch.from_numpy(inputs)).embedding.numpy()


@pytest.mark.parametrize(
    ("settings", "options", "tolerance"),
    [
        ({}, {}, FLOAT32),
        ({"bias": False, "normalize": False}, {}, FLOAT32),
        ({"pooling": "gmp", "max_residual": True}, {"outputs": ("attributes",)}, FLOAT32),
        ({"pooling": "gem"}, {"outputs": ("weights",)}, FLOAT32),
        ({"pooling": "gmp", "transport_ratio": 1.0}, {}, FLOAT32),
        ({}, {"solver": "fixed-point", "iterations": 5}, FLOAT32),
        ({}, {"opset": 17}, FLOAT32),
        ({}, {"opset": 21, "external_data": True}, FLOAT32),
        ({}, {"precision": "fp16", "io_precision": "fp16"}, FLOAT16),
        ({}, {"precision": "bf16"}, BFLOAT16),
    ],
    ids=str,
)
def test_equals_average_pooling_in_pytorch(
    settings: dict, options: dict, tolerance: float, tmp_path: Path
) -> None:
    model = head_alone(**settings)
    source, target = tmp_path / "model.onnx", tmp_path / "twin.onnx"
    export_onnx(model, source, ExportOptions(**{"iterations": 2, **options}))
    described = write_twin(source, target)
    inputs = np.random.default_rng(0).standard_normal((3, 16, 4, 5), dtype=np.float32)
    found, wanted = embeddings(target, inputs), expected(model, inputs)
    np.testing.assert_allclose(found, wanted, rtol=0, atol=tolerance)
    assert np.abs(found - embeddings(source, inputs)).max() > 10 * FLOAT32 or settings.get(
        "transport_ratio"
    )
    assert described.model.head == average_pooling_of(model.config.head)
    assert [output.name for output in described.outputs] == ["embedding"]


@pytest.mark.parametrize("pixels", [False, True])
def test_keeps_backbone_and_preprocessing(
    pixels: bool, tiny_checkpoint: Path, tmp_path: Path
) -> None:
    model = load_checkpoint(tiny_checkpoint)
    source, target = tmp_path / "model.onnx", tmp_path / "twin.onnx"
    export_onnx(model, source, ExportOptions(include_preprocessing=pixels, iterations=2))
    write_twin(source, target)
    onnx.checker.check_model(str(target), full_check=True)
    images = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3), dtype=np.uint8)
    with open_session(target) as session:
        assert session.info.input.dtype == ("uint8" if pixels else "float32")
        assert session.info.preprocessing == model.config.preprocessing
        found = session.embed(images)
    with open_session(tiny_checkpoint) as session:
        wanted = expected(model, session.prepare(images))
    np.testing.assert_allclose(found, wanted, rtol=0, atol=FLOAT32)


def test_nothing_of_the_old_head_is_left(tmp_path: Path) -> None:
    source, target = tmp_path / "model.onnx", tmp_path / "twin.onnx"
    export_onnx(head_alone(), source, ExportOptions(iterations=3))
    write_twin(source, target)
    graph = onnx.load(target).graph
    assert len(graph.node) < 10
    assert not [node.name for node in graph.node if "newton" in node.name]
    assert not [weight.name for weight in graph.initializer if "prototype" in weight.name]


def test_a_twin_has_no_twin(tmp_path: Path) -> None:
    source, target = tmp_path / "model.onnx", tmp_path / "twin.onnx"
    export_onnx(head_alone(), source, ExportOptions(iterations=2))
    write_twin(source, target)
    with pytest.raises(ModelFileError, match="expected a GSP head, found gap pooling"):
        write_twin(target, tmp_path / "third.onnx")


def test_graphs_of_others_are_refused(tmp_path: Path) -> None:
    source = tmp_path / "model.onnx"
    export_onnx(head_alone(), source, ExportOptions(iterations=2))
    network = onnx.load(source)
    for node in network.graph.node:
        node.name = node.name.replace("gsp/", "theirs/")
    onnx.save(network, source)
    with pytest.raises(ModelFileError, match=r"expected one feature map .* found none"):
        write_twin(source, tmp_path / "twin.onnx")
    del network.metadata_props[:]
    onnx.save(network, source)
    with pytest.raises(ModelFileError, match="not an export of gsp-deploy"):
        write_twin(source, tmp_path / "twin.onnx")
    source.write_bytes(b"no model")
    with pytest.raises(ModelFileError, match="not a whole ONNX file"):
        write_twin(source, tmp_path / "twin.onnx")


def test_needs_no_torch(tmp_path: Path) -> None:
    source, target = tmp_path / "model.onnx", tmp_path / "twin.onnx"
    export_onnx(head_alone(), source, ExportOptions(iterations=2))
    # The package's own __init__ offers the exporter, which needs torch; the twin's module does not.
    script = f"""
        import sys, types
        from pathlib import Path
        import gsp_deploy
        sys.modules["torch"] = None
        package = types.ModuleType("gsp_deploy.export")
        package.__path__ = [str(Path(gsp_deploy.__file__).parent / "export")]
        sys.modules["gsp_deploy.export"] = package
        from gsp_deploy.export.twin import write_twin
        write_twin({str(source)!r}, {str(target)!r})
        """
    subprocess.run([sys.executable, "-c", textwrap.dedent(script)], check=True)
    assert target.is_file()
