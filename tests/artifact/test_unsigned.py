"""Signed activations as uint8: the same numbers to the last bit, or the file is left alone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from int8_network import int8_network
from onnx import TensorProto, helper, numpy_helper

from gsp_deploy.artifact import unsigned
from gsp_deploy.artifact.external_data import mentions
from gsp_deploy.base.environment import keep_int8_exact

# Far beyond the ranges of the integers too, so that both ends saturate.
IMAGES = np.random.default_rng(1).normal(0, 40, (5, 3, 16, 16)).astype(np.float32)


@pytest.fixture
def network() -> onnx.ModelProto:
    return int8_network()


def run(model: bytes, level: str = "ORT_DISABLE_ALL") -> np.ndarray:
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = getattr(onnxruntime.GraphOptimizationLevel, level)
    keep_int8_exact(options)
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    return session.run(None, {"x": IMAGES})[0]


def written(model: onnx.ModelProto, tmp_path: Path) -> Path:
    path = tmp_path / "model.onnx"
    onnx.save(model, path)
    return path


def test_the_numbers_are_the_same(network: onnx.ModelProto, tmp_path: Path) -> None:
    found = unsigned.unsign(written(network, tmp_path))
    assert found is not None
    onnx.checker.check_model(onnx.load_from_string(found), full_check=True)
    expected = run(network.SerializeToString())
    np.testing.assert_array_equal(run(found), expected)
    spread = np.abs(expected - expected.mean()).mean()
    fast = run(found, "ORT_ENABLE_ALL") - run(network.SerializeToString(), "ORT_ENABLE_ALL")
    assert np.abs(fast).max() <= 1e-4 * spread


def test_what_lies_between_equal_scales_runs_on_integers(network: onnx.ModelProto) -> None:
    before = Counter(node.op_type for node in network.graph.node)
    assert unsigned.unsign_graph(network.graph)
    after = Counter(node.op_type for node in network.graph.node)
    # The first Relu and the clip, each with its pair; the last Relu's two scales differ.
    assert before["Relu"] - after["Relu"] == 1
    assert after["Clip"] == before["Clip"] + 1
    assert after["Identity"] == 4
    assert before["QuantizeLinear"] - after["QuantizeLinear"] == 2
    bounds = {
        t.name: int(numpy_helper.to_array(t)) for t in network.graph.initializer if "/" in t.name
    }
    assert sorted(bounds.values()) == [128, 128, 255, 255]


def asymmetric(graph: onnx.GraphProto) -> None:
    point = next(t for t in graph.initializer if t.name == "b1_zero")
    point.CopyFrom(numpy_helper.from_array(np.int8(3), point.name))


def test_operators_that_take_no_uint8_yet(network: onnx.ModelProto, tmp_path: Path) -> None:
    network.opset_import[0].version = 11
    assert unsigned.unsign(written(network, tmp_path)) is None


def unsigned_already(graph: onnx.GraphProto) -> None:
    assert unsigned.unsign_graph(graph)


def without_zero_point(graph: onnx.GraphProto) -> None:
    for node in graph.node:
        if node.op_type in ("QuantizeLinear", "DequantizeLinear") and node.name == "c1":
            del node.input[2]


def shared_with_a_weight(graph: onnx.GraphProto) -> None:
    weight = next(n for n in graph.node if n.op_type == "DequantizeLinear" and "c_w" in n.input)
    weight.input[2] = "c1_zero"


def integers_as_output(graph: onnx.GraphProto) -> None:
    graph.output.append(helper.make_tensor_value_info("d1_q", TensorProto.INT8, ["n", 4, 8, 8]))


def integers_read_by_another(graph: onnx.GraphProto) -> None:
    graph.node.append(helper.make_node("Cast", ["d1_q"], ["cast"], to=TensorProto.FLOAT))


def computed_zero_point(graph: onnx.GraphProto) -> None:
    graph.node.insert(0, helper.make_node("Identity", ["in_zero"], ["same_zero"]))
    for node in graph.node:
        for index, name in enumerate(node.input):
            if name == "a1_zero":
                node.input[index] = "same_zero"


@pytest.mark.parametrize(
    "change",
    [
        asymmetric,
        unsigned_already,
        without_zero_point,
        shared_with_a_weight,
        integers_as_output,
        integers_read_by_another,
        computed_zero_point,
    ],
)
def test_other_files_are_left_alone(
    change: Callable[[onnx.GraphProto], None], network: onnx.ModelProto
) -> None:
    change(network.graph)
    before = network.SerializeToString(deterministic=True)
    assert not unsigned.unsign_graph(network.graph)
    assert network.SerializeToString(deterministic=True) == before


def test_what_a_file_mentions(tiny_export: str, tmp_path: Path, network) -> None:
    assert not mentions(Path(tiny_export), "QuantizeLinear")
    assert mentions(written(network, tmp_path), "QuantizeLinear")
    (tmp_path / "empty").touch()
    assert not mentions(tmp_path / "empty", "QuantizeLinear")


def test_a_float32_file_has_nothing_to_rewrite(tiny_export: str) -> None:
    assert unsigned.unsign(Path(tiny_export)) is None
