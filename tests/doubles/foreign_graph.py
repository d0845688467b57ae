"""A small ONNX model that gsp-deploy did not export."""

from __future__ import annotations

from pathlib import Path

import onnx
from onnx import TensorProto, helper


def small_graph(
    path: Path,
    *,
    output: str = "embedding",
    shape: tuple[object, ...] = ("batch", 4),
    inputs: int = 1,
    dtype: int = TensorProto.FLOAT,
    operator: str = "Relu",
    channels: int | None = 4,
) -> Path:
    """Write a foreign model: no manifest, and a mean over the last two axes."""
    sources = [
        helper.make_tensor_value_info(f"x{i}", dtype, ["batch", channels, None, None])
        for i in range(inputs)
    ]
    nodes = [
        helper.make_node("Cast", ["x0"], ["float"], to=TensorProto.FLOAT),
        helper.make_node(operator, ["float"], ["active"]),
        helper.make_node("ReduceMean", ["active", "axes"], [output], keepdims=0),
    ]
    axes = helper.make_tensor("axes", TensorProto.INT64, [2], [2, 3])
    result = helper.make_tensor_value_info(output, TensorProto.FLOAT, shape)
    graph = helper.make_graph(nodes, "foreign", sources, [result], [axes])
    opset = [helper.make_opsetid("", 18)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=10), path)
    return path
