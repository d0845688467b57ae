"""The backbone in ONNX equals PyTorch, at other sizes too, or the export refuses it."""

from __future__ import annotations

import copy
import math
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from timm.models import register_model
from torch import Tensor, nn

from gsp_deploy import EmbeddingModel, GSPConfig, ModelConfig, PreprocessingSpec, open_session
from gsp_deploy.errors import GspDeployError
from gsp_deploy.export.backbone import export_backbone, head_parameters
from gsp_deploy.images.normalisation import normalise

ERROR = 1e-5


def test_embedding_attributes_and_weights_equal_torch(
    exported, conv_model, photographs, errors_against_torch
) -> None:
    inputs = photographs.prepare(photographs.inputs, "float32")
    errors = errors_against_torch(exported(iterations=8), conv_model, inputs)
    assert set(errors) == {"embedding", "attributes", "weights"}
    assert max(errors.values()) < ERROR


@pytest.mark.parametrize("batch", [1, 2, 5])
def test_any_batch(batch, exported, conv_model, photographs, errors_against_torch) -> None:
    path = exported(iterations=8)
    inputs = photographs.prepare(photographs.inputs[:batch], "float32")
    assert max(errors_against_torch(path, conv_model, inputs).values()) < ERROR
    assert onnx.load(path).graph.input[0].type.tensor_type.shape.dim[0].dim_param == "batch"


@pytest.mark.parametrize("size", [(40, 48), (64, 24), (33, 97), (8, 8)])
def test_any_height_and_width(size, exported, conv_model, errors_against_torch) -> None:
    path = exported(dynamic_size=True, iterations=8)
    inputs = np.random.default_rng(0).standard_normal((3, 3, *size)).astype(np.float32)
    assert max(errors_against_torch(path, conv_model, inputs).values()) < ERROR


def test_open_sizes_are_called_by_their_names(exported) -> None:
    graph = onnx.load(exported(dynamic_size=True, iterations=8)).graph

    def sizes(value: onnx.ValueInfoProto) -> list[object]:
        return [d.dim_param or d.dim_value for d in value.type.tensor_type.shape.dim]

    assert sizes(graph.input[0]) == ["batch", 3, "height", "width"]
    outputs = {value.name: sizes(value) for value in graph.output}
    assert outputs["embedding"] == ["batch", 16]
    assert outputs["attributes"] == ["batch", 8]
    batch, rows, columns = outputs["weights"]
    assert (batch, "height" in rows, "width" in columns) == ("batch", True, True)


def test_a_fixed_batch_takes_any_number_of_images(
    exported, conv_model, photographs, errors_against_torch
) -> None:
    path = exported(dynamic_batch=False, iterations=8)
    assert onnx.load(path).graph.input[0].type.tensor_type.shape.dim[0].dim_value == 1
    inputs = photographs.prepare(photographs.inputs[:5], "float32")
    assert max(errors_against_torch(path, conv_model, inputs).values()) < ERROR


@pytest.mark.parametrize("options", [{}, {"dynamic_size": True}])
def test_preprocessing_inside_equals_preprocessing_outside(
    options, exported, conv_model, photographs
) -> None:
    inside = exported(include_preprocessing=True, iterations=8, **options)
    outside = exported(iterations=8)
    with open_session(inside) as one, open_session(outside) as other:
        assert one.info.input.dtype == "uint8"
        assert one.info.input.shape[3] == 3
        found, expected = one.run(photographs.inputs), other.run(photographs.inputs)
        direct = other.embed(normalise(photographs.inputs, conv_model.config.preprocessing))
    for name, array in found.items():
        np.testing.assert_allclose(array, expected[name], atol=1e-6)
    assert np.array_equal(direct, expected["embedding"])


def test_batch_norms_are_folded(exported) -> None:
    kinds = [node.op_type for node in onnx.load(exported(iterations=8)).graph.node]
    assert "BatchNormalization" not in kinds
    assert kinds.count("Conv") == 6 + 2  # the head has the embedding and the cost


def test_nodes_name_their_module_and_nothing_of_this_machine(exported) -> None:
    path = exported(iterations=8)
    model = onnx.load(path)
    convolutions = [n for n in model.graph.node if n.op_type == "Conv" and "gsp/" not in n.name]
    for index, node in enumerate(convolutions):
        notes = " ".join(entry.value for entry in node.metadata_props)
        assert f"backbone.units.{index}" in notes
    assert b"site-packages" not in path.read_bytes()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_models_of_other_types_are_exported_in_float32(dtype, conv_model) -> None:
    model = copy.deepcopy(conv_model).to(dtype)
    graph = export_backbone(model, 18, dynamic_batch=True, dynamic_size=False).graph
    assert {w.dtype.name for w in graph.initializers.values()} <= {"FLOAT", "INT64"}
    parameters = head_parameters(model.head)
    assert parameters.embed_weight.dtype == np.float32
    expected = conv_model.head.prototypes.detach().to(dtype).float().numpy()
    assert np.array_equal(parameters.prototypes, expected)


def test_the_callers_model_is_left_as_it_is(conv_model) -> None:
    model = copy.deepcopy(conv_model).train().half()
    before = {name: t.clone() for name, t in model.state_dict().items()}
    export_backbone(model, 18, dynamic_batch=True, dynamic_size=False)
    assert model.training
    assert model.backbone.training
    assert all(torch.equal(before[name], t) for name, t in model.state_dict().items())


class OneSize(nn.Module):
    """Adds a position of its own to each of 5 x 6 locations."""

    num_features = 4

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 8, 8)
        self.position = nn.Parameter(torch.randn(1, 4, 5, 6))

    def forward_features(self, images: Tensor) -> Tensor:
        return self.conv(images) + self.position


class Remembering(OneSize):
    """Takes every size, and keeps in its graph a number of the size that was traced."""

    def forward_features(self, images: Tensor) -> Tensor:
        return self.conv(images) * math.sqrt(images.shape[2])


class Undecided(OneSize):
    """Decides by the pixels what it does, which no graph can."""

    def forward_features(self, images: Tensor) -> Tensor:
        return self.conv(images) if images.sum() > 0 else self.conv(images) * 2


class Pooled(OneSize):
    """Pools its features itself."""

    def forward_features(self, images: Tensor) -> Tensor:
        return self.conv(images).mean(dim=(2, 3))


@register_model
def gsp_test_one_size(**_: Any) -> nn.Module:
    return OneSize()


@register_model
def gsp_test_remembering(**_: Any) -> nn.Module:
    return Remembering()


@register_model
def gsp_test_undecided(**_: Any) -> nn.Module:
    return Undecided()


@register_model
def gsp_test_pooled(**_: Any) -> nn.Module:
    return Pooled()


@pytest.mark.parametrize(
    ("name", "dynamic_size", "reason"),
    [
        ("gsp_test_one_size", False, None),
        ("gsp_test_one_size", True, "made for one image size .*--dynamic-size"),
        ("gsp_test_remembering", True, "one image size .at 104x176 the graph's features differ"),
        ("vit_tiny_patch16_224", True, "one image size .takes images of 224 x 224; yours are"),
        ("gsp_test_undecided", False, "exporter refused the backbone gsp_test_undecided: "),
        (
            "gsp_test_pooled",
            False,
            r"gsp_test_pooled: it yields \(2, 4\).*height, width\) or tokens",
        ),
    ],
)
def test_backbones_that_no_graph_can_hold(name, dynamic_size, reason, capfd) -> None:
    is_ours = name.startswith("gsp_test")
    channels, size = (4, (40, 48)) if is_ours else (192, (224, 224))
    config = ModelConfig(name, GSPConfig(channels, 8, 4), PreprocessingSpec(*size))
    model = EmbeddingModel(config).eval()
    if reason is None:
        export_backbone(model, 18, dynamic_batch=True, dynamic_size=dynamic_size)
    else:
        with pytest.raises(GspDeployError, match=reason) as caught:
            export_backbone(model, 18, dynamic_batch=True, dynamic_size=dynamic_size)
        assert "\n" not in str(caught.value)
        assert "\x1b" not in str(caught.value)
    assert capfd.readouterr().out == ""


def test_a_power_of_zero_has_no_mean(build_head, export_head) -> None:
    model = build_head(pooling="gem")
    with torch.no_grad():
        model.head.power.fill_(0)
    with pytest.raises(GspDeployError, match="power 0"):
        export_head(model)
