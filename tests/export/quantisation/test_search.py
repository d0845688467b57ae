"""The search for the layers that stay in float32, and what its attempts are judged by."""

from __future__ import annotations

import math
from pathlib import Path

import onnx
import onnx_ir as ir
import onnxruntime
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gsp_deploy import EmbeddingModel, GSPConfig, ModelConfig
from gsp_deploy.base.environment import keep_int8_exact
from gsp_deploy.export import ExportOptions
from gsp_deploy.export.assembly import Draft
from gsp_deploy.export.quantisation.layers import find_layers
from gsp_deploy.export.quantisation.search import fewest, quantise_draft
from gsp_deploy.images.normalisation import normalise
from gsp_deploy.model import feature_channels

from .gratings import PLAN, SPEC, gratings, unlabelled


def test_images_without_classes_are_judged_by_cosine(healthy: Draft) -> None:
    draft, record = quantise_draft(healthy, PLAN, unlabelled())
    assert record.measure == "cosine"
    assert record.float32_score == pytest.approx(100)
    embeddings = []
    settings = onnxruntime.SessionOptions()
    keep_int8_exact(settings)
    for variant in (healthy, draft):
        session = onnxruntime.InferenceSession(
            ir.serde.serialize_model(variant.assemble(PLAN, ())).SerializeToString(),
            settings,
            providers=["CPUExecutionProvider"],
        )
        embeddings.append(session.run(None, {"images": normalise(gratings(), SPEC)})[0])
    expected, found = (e - embeddings[0].mean(axis=0) for e in embeddings)
    cosine = torch.cosine_similarity(torch.from_numpy(found), torch.from_numpy(expected))
    assert record.score == pytest.approx(100 * float(cosine.mean()), abs=1e-3)
    assert record.score > 99


def test_if_no_attempt_passes_the_best_is_returned(healthy: Draft) -> None:
    options = ExportOptions(precision="int8", max_drop=0)
    draft, record = quantise_draft(healthy.variant(healthy.backbone, options), PLAN, unlabelled())
    assert not record.passed
    assert record.score == max(trial.score for trial in record.trials)
    assert len(record.float_layers) == record.layers - 1  # each layer in int8 costs something
    operators = [node.op_type for node in draft.backbone.graph]
    assert operators.count("QuantizeLinear") in (1, 2)  # the last layer's input and output


@pytest.mark.parametrize("backbone", ["test_efficientnet", "test_resnet"])
def test_other_backbones_pass_the_checker_and_stay_close(backbone: str, tmp_path: Path) -> None:
    """SiLU and squeeze-excitation; bottlenecks with projections."""
    torch.manual_seed(0)
    head = GSPConfig(
        feature_channels(backbone, {}, SPEC), embedding_dim=8, num_prototypes=4, solver="newton"
    )
    draft = Draft(
        EmbeddingModel(ModelConfig(backbone, head, SPEC)).eval(),
        ExportOptions(precision="int8", max_drop=99, opset=19, dynamic_batch=False),
    )
    found, record = quantise_draft(draft, PLAN, unlabelled(12))
    assert record.layers == len(find_layers(draft.backbone)) > 5
    assert record.score > 90
    path = tmp_path / "model.onnx"
    ir.save(found.assemble(PLAN, ()), path)
    onnx.checker.check_model(str(path), full_check=True)
    assert onnx.load(path).opset_import[0].version == 19


@given(st.integers(0, 200), st.integers(1, 250))
def test_fewest_finds_the_threshold_in_few_trials(most: int, threshold: int) -> None:
    tried: list[int] = []

    def passes(count: int) -> bool:
        assert 1 <= count <= most
        tried.append(count)
        return count >= threshold

    assert fewest(passes, most) == (threshold if threshold <= most else None)
    assert len(set(tried)) <= 2 * math.log2(max(most, 1)) + 2
