"""The arithmetic of a network, and what a processor reaches in a plain matrix product."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
import openvino
from onnx import TensorProto, helper, numpy_helper, shape_inference

from gsp_deploy.runtime.openvino_model import HINTS

_SIDE = 2048


def multiply_adds(model: onnx.ModelProto, size: int) -> int:
    """Return the multiply-adds of one image in all convolutions, by the shapes in the graph."""
    source = model.graph.input[0].type.tensor_type.shape
    source.dim[0].dim_value = 1
    del model.graph.value_info[:]
    inferred = shape_inference.infer_shapes(model).graph
    shapes = {
        value.name: [dim.dim_value for dim in value.type.tensor_type.shape.dim]
        for value in (*inferred.value_info, *inferred.output)
    }
    weights = {weight.name: list(weight.dims) for weight in inferred.initializer}
    total = 0
    for node in inferred.node:
        if node.op_type == "Conv" and node.input[1] in weights:
            total += int(np.prod(weights[node.input[1]])) * int(np.prod(shapes[node.output[0]][2:]))
    assert total > size * size  # a graph without shapes would count nothing
    return total


def product_task(precision: str, threads: int) -> tuple[Callable[[], object], float]:
    """Return a matrix product in OpenVINO to time, and its multiplications and additions."""
    core = openvino.Core()
    hint = HINTS.get(precision, "f32")
    settings = {"INFERENCE_PRECISION_HINT": hint, "INFERENCE_NUM_THREADS": threads}
    graph = _product(precision == "int8").SerializeToString()
    request = core.compile_model(core.read_model(graph), "CPU", settings).create_infer_request()
    inputs = np.random.default_rng(0).uniform(-1, 1, (_SIDE, _SIDE)).astype(np.float32)
    return lambda: request.infer([inputs], share_inputs=True), 2.0 * _SIDE**3


def _product(quantised: bool) -> onnx.ModelProto:
    """Return `x @ w` with a constant `w`; quantised, with Q/DQ around both."""
    weight = np.random.default_rng(1).uniform(-1, 1, (_SIDE, _SIDE)).astype(np.float32)
    shape = [_SIDE, _SIDE]
    ends = [helper.make_tensor_value_info(n, TensorProto.FLOAT, shape) for n in ("x", "y")]
    if not quantised:
        nodes = [helper.make_node("MatMul", ["x", "w"], ["y"])]
        stored = [numpy_helper.from_array(weight, "w")]
    else:
        nodes = [
            helper.make_node("QuantizeLinear", ["x", "scale", "middle"], ["xq"]),
            helper.make_node("DequantizeLinear", ["xq", "scale", "middle"], ["xd"]),
            helper.make_node("DequantizeLinear", ["wq", "scale", "zero"], ["wd"]),
            helper.make_node("MatMul", ["xd", "wd"], ["y"]),
        ]
        stored = [
            numpy_helper.from_array(np.round(weight * 127).astype(np.int8), "wq"),
            numpy_helper.from_array(np.float32(1 / 127), "scale"),
            numpy_helper.from_array(np.uint8(128), "middle"),
            numpy_helper.from_array(np.int8(0), "zero"),
        ]
    graph = helper.make_graph(nodes, "product", ends[:1], ends[1:], stored)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
