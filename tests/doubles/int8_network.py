"""A small int8 graph as exports have it: signed activations, zero points 0, Q/DQ pairs."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

_DRAW = np.random.default_rng(0)


def _pair(graph: onnx.GraphProto, source: str, scale: float, name: str) -> str:
    """Quantise a value to signed int8 and back; return the rounded value's name."""
    graph.initializer.append(numpy_helper.from_array(np.float32(scale), f"{name}_scale"))
    graph.initializer.append(numpy_helper.from_array(np.int8(0), f"{name}_zero"))
    ends = [f"{name}_scale", f"{name}_zero"]
    graph.node.append(helper.make_node("QuantizeLinear", [source, *ends], [f"{name}_q"], name))
    graph.node.append(helper.make_node("DequantizeLinear", [f"{name}_q", *ends], [f"{name}_dq"]))
    return f"{name}_dq"


def _conv(graph: onnx.GraphProto, source: str, channels: int, name: str) -> str:
    """Convolve with int8 weights, one scale per channel."""
    weight = _DRAW.integers(-127, 128, (4, channels, 3, 3), dtype=np.int8)
    for end, value in (
        ("w", weight),
        ("w_scale", _DRAW.uniform(1e-3, 3e-3, 4).astype(np.float32)),
        ("w_zero", np.zeros(4, np.int8)),
    ):
        graph.initializer.append(numpy_helper.from_array(value, f"{name}_{end}"))
    stored = [f"{name}_{end}" for end in ("w", "w_scale", "w_zero")]
    graph.node.append(helper.make_node("DequantizeLinear", stored, [f"{name}_wf"], axis=0))
    inputs = [source, f"{name}_wf"]
    graph.node.append(helper.make_node("Conv", inputs, [name], pads=[1, 1, 1, 1]))
    return name


def _step(graph: onnx.GraphProto, operator: str, inputs: list[str], **settings: object) -> str:
    """Append an operator; return its output's name."""
    name = f"{operator}_{len(graph.node)}"
    graph.node.append(helper.make_node(operator, inputs, [name], name=name, **settings))
    return name


def int8_network() -> onnx.ModelProto:
    """Return a network with every case: Relu and pooling, a clip, a float32 sum, other scales."""
    graph = onnx.GraphProto(name="int8")
    graph.input.append(helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3, 16, 16]))
    for name, value in (("zero", 0), ("six", 6)):
        graph.initializer.append(numpy_helper.from_array(np.float32(value), name))
    a = _pair(graph, _conv(graph, _pair(graph, "x", 0.5, "in"), 3, "a"), 0.25, "a1")
    a = _step(graph, "MaxPool", [_step(graph, "Relu", [a])], kernel_shape=[2, 2], strides=[2, 2])
    a = _pair(graph, a, 0.25, "a2")
    b = _pair(graph, _conv(graph, a, 4, "b"), 6 / 127, "b1")
    b = _pair(graph, _step(graph, "Clip", [b, "zero", "six"]), 6 / 127, "b2")
    c = _pair(graph, _conv(graph, b, 4, "c"), 0.05, "c1")
    total = _step(graph, "Relu", [_step(graph, "Add", [c, a])])
    d = _pair(graph, _conv(graph, _pair(graph, total, 0.3, "sum"), 4, "d"), 0.2, "d1")
    d = _pair(graph, _step(graph, "Relu", [d]), 0.1, "d2")
    graph.node.append(helper.make_node("Add", [_conv(graph, d, 4, "e"), total], ["y"]))
    graph.output.append(helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 4, 8, 8]))
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    onnx.checker.check_model(model, full_check=True)
    return onnx.shape_inference.infer_shapes(model)
