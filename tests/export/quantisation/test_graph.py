"""Where Q/DQ pairs end: who reads int8, who reads the float32 value, at every kind of boundary."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from gsp_deploy import PreprocessingSpec
from gsp_deploy.export.calibration import Calibration
from gsp_deploy.export.quantisation.graph import quantise_graph
from gsp_deploy.export.quantisation.layers import Layer, find_layers
from gsp_deploy.export.quantisation.ranges import Ranges, calibrate_ranges
from gsp_deploy.images.normalisation import normalise

SPEC = PreprocessingSpec(8, 8)
DRAW = np.random.default_rng(0)
IMAGES = DRAW.integers(0, 256, (12, 8, 8, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def backbone() -> ir.Model:
    """Convolutions `a` to `e`, two of them activated, with two additions and a linear end."""
    nodes = [
        conv("a", "images", "a"),
        helper.make_node("Relu", ["a"], ["after_relu"], name="relu"),
        conv("b", "after_relu", "b"),
        helper.make_node("Add", ["b", "after_relu"], ["sum"], name="add"),
        conv("c", "b", "c"),
        helper.make_node("Clip", ["c", "zero", "six"], ["clipped"], name="clip"),
        conv("e", "sum", "e"),
        helper.make_node("Add", ["clipped", "e"], ["sum_2"], name="add_2"),
        conv("d", "sum_2", "features"),
    ]
    weights = [
        numpy_helper.from_array(
            DRAW.normal(0, 0.4, (4, 3 if name == "a" else 4, 3, 3)).astype(np.float32),
            f"backbone.{name}.weight",
        )
        for name in "abcde"
    ]
    limits = [
        numpy_helper.from_array(np.array(value, np.float32), name)
        for name, value in (("zero", 0), ("six", 6))
    ]
    graph = helper.make_graph(
        nodes,
        "main_graph",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, ["batch", 3, 8, 8])],
        [helper.make_tensor_value_info("features", TensorProto.FLOAT, ["batch", 4, 8, 8])],
        [*weights, *limits],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    return ir.serde.deserialize_model(onnx.shape_inference.infer_shapes(model))


def conv(name: str, source: str, target: str) -> onnx.NodeProto:
    weight = f"backbone.{name}.weight"
    return helper.make_node("Conv", [source, weight], [target], name=name, pads=[1, 1, 1, 1])


@pytest.fixture(scope="module")
def found(backbone: ir.Model) -> Ranges:
    return calibrate_ranges(backbone, Calibration(IMAGES, "noise", SPEC), "min-max")


def test_layers_are_found_with_what_they_fuse_with(backbone: ir.Model) -> None:
    assert find_layers(backbone) == (
        Layer("a", "a", "Conv", "relu"),
        Layer("b", "b", "Conv", None),
        Layer("c", "c", "Conv", "clip"),
        Layer("e", "e", "Conv", None),
        Layer("d", "d", "Conv", None),
    )


def quantised(backbone: ir.Model, found: Ranges, left_out: Collection[str]) -> onnx.GraphProto:
    layers = find_layers(backbone)
    model = ir.serde.serialize_model(
        quantise_graph(
            backbone,
            [layer for layer in layers if layer.name not in left_out],
            [layer for layer in layers if layer.name in left_out],
            found,
        )
    )
    onnx.checker.check_model(model, full_check=True)
    assert [output.name for output in model.graph.output] == ["features"]
    return model.graph


def source_of(graph: onnx.GraphProto, node: str, index: str = "0") -> str:
    """Say where an input comes from: a node's name, or `int8 of` it through a Q/DQ pair."""
    made_by = {name: made for made in graph.node for name in made.output}
    (reader,) = (made for made in graph.node if made.name == node)
    value, prefix = reader.input[int(index)], ""
    if value in made_by and made_by[value].op_type == "DequantizeLinear":
        quantise = made_by[made_by[value].input[0]]
        assert quantise.op_type == "QuantizeLinear"
        value, prefix = quantise.input[0], "int8 of "
    return prefix + (made_by[value].name if value in made_by else value)


@pytest.mark.parametrize(
    ("left_out", "expected"),
    [
        ("", {"a": "int8 of images", "relu": "int8 of a", "b": "int8 of relu", "c": "int8 of b",
              "clip": "int8 of c", "e": "int8 of add", "d": "int8 of add_2"}),
        # an addition reads float32; where it alone reads a layer, what an integer kernel writes
        ("", {"add": "b", "add 1": "relu", "add_2": "clip", "add_2 1": "int8 of e"}),
        # what was left out has float32 before and behind it, up to the next layer
        ("a", {"a": "images", "relu": "a", "b": "int8 of relu"}),
        ("b", {"relu": "int8 of a", "b": "relu", "add": "b", "c": "int8 of b"}),
        ("c", {"b": "int8 of relu", "c": "b", "add": "b", "clip": "c", "add_2": "clip"}),
        ("e", {"e": "add", "add_2 1": "e", "d": "int8 of add_2"}),
        ("bcde", {"a": "int8 of images", "relu": "int8 of a", "b": "relu", "c": "b", "d": "add_2"}),
        ("abcde", {"a": "images", "relu": "a", "b": "relu", "c": "b", "clip": "c", "d": "add_2"}),
    ],
)  # fmt: skip
def test_which_nodes_read_int8(
    left_out: str, expected: dict[str, str], backbone: ir.Model, found: Ranges
) -> None:
    graph = quantised(backbone, found, left_out)
    assert {place: source_of(graph, *place.split()) for place in expected} == expected
    (last,) = (node for node in graph.node if "features" in node.output)
    assert last.name == "d"  # the pooling head reads float32
    weights = {node: type_of_weight(graph, node) for node in "abcde"}
    assert weights == {node: "float32" if node in left_out else "int8" for node in "abcde"}


def type_of_weight(graph: onnx.GraphProto, node: str) -> str:
    stored = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    made_by = {name: made for made in graph.node for name in made.output}
    (reader,) = (made for made in graph.node if made.name == node)
    name = reader.input[1]
    return str(stored[made_by[name].input[0] if name in made_by else name].dtype)


def test_the_pair_before_an_activation_rounds_nothing_more(
    backbone: ir.Model, found: Ranges
) -> None:
    """What the next layer makes of it is the same without the pair between `a` and `relu`.

    However far `a` goes below zero: the ReLU cuts that off.
    """
    results = []
    low, high = found["a"]
    for first in ("a", None):
        graph = quantised(backbone, {**found, "a": (4 * low, high)}, "")
        graph.output[0].name = "b"
        (relu,) = (node for node in graph.node if node.name == "relu")
        relu.input[0] = first or relu.input[0]
        # onnx's own evaluator has these operators from 19 on, unchanged
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 19)])
        (result,) = ReferenceEvaluator(model).run(None, {"images": normalise(IMAGES, SPEC)})
        results.append(result)
    step = max(map(abs, found["after_relu"])) / 127
    assert np.abs(results[0] - results[1]).max() < 1e-3 * step


def test_a_weight_that_two_nodes_share_is_left_alone(backbone: ir.Model) -> None:
    shared = backbone.clone()
    nodes = {node.name: node for node in shared.graph}
    nodes["c"].replace_input_with(1, nodes["b"].inputs[1])
    assert [layer.name for layer in find_layers(shared)] == ["a", "e", "d"]


def test_the_backbone_itself_is_not_changed(backbone: ir.Model, found: Ranges) -> None:
    before = ir.serde.serialize_model(backbone).SerializeToString(deterministic=True)
    ranges = dict(found)
    quantised(backbone, found, "b")
    assert ir.serde.serialize_model(backbone).SerializeToString(deterministic=True) == before
    assert ranges == found
