"""Run a bfloat16 or float16 graph on the CPU as hardware with a float32 accumulator does.

Every operator computes in float32 and its result is rounded to the narrow type. ONNX Runtime has
no bfloat16 kernels for the CPU. It computes float16 in float32 without rounding in between, so you
never see an overflow of the real hardware. This is slower than float32: use it to check, not to
serve.
"""

from __future__ import annotations

from pathlib import Path

import onnx
from onnx import TensorProto, helper

from gsp_deploy.artifact.external_data import without_links
from gsp_deploy.artifact.pooling_node import expand_pooling
from gsp_deploy.base.elements import Element

WIDE = TensorProto.FLOAT
_SUFFIX = "/widened"


def widen(path: Path, element: Element) -> bytes | None:
    """Return the model with the narrow type only in Casts, or None if it has no such type.

    Graph inputs and outputs of that type become float32.

    Args:
        path: the ONNX file.
        element: float16 or bfloat16.
    """
    narrow_type = TensorProto.DataType.Value(element.onnx)
    with without_links(path) as plain:
        model = onnx.shape_inference.infer_shapes(expand_pooling(onnx.load(plain)))
    graph = model.graph
    narrow = _values_of_type(graph, narrow_type)
    if not narrow:
        return None
    nodes = [_cast(name, name + _SUFFIX, WIDE) for name in sorted(_stored(graph) & narrow)]
    for source in graph.input:
        if source.name in narrow:
            nodes += _narrow_input(source, narrow_type)
    for node in graph.node:
        nodes += _widen(node, narrow, narrow_type)
    for result in graph.output:
        if result.name in narrow:
            nodes.append(_widen_output(nodes, result))
    del graph.node[:]
    graph.node.extend(nodes)
    del graph.value_info[:]
    return bytes(model.SerializeToString())


def _values_of_type(graph: onnx.GraphProto, element_type: int) -> set[str]:
    typed = (*graph.value_info, *graph.input, *graph.output)
    return {v.name for v in typed if v.type.tensor_type.elem_type == element_type} | {
        weight.name for weight in graph.initializer if weight.data_type == element_type
    }


def _stored(graph: onnx.GraphProto) -> set[str]:
    return {weight.name for weight in graph.initializer}


def _widen(node: onnx.NodeProto, narrow: set[str], narrow_type: int) -> list[onnx.NodeProto]:
    """Return the node in float32, followed by rounding casts; a Cast itself needs none."""
    for index, name in enumerate(node.input):
        if name in narrow:
            node.input[index] = name + _SUFFIX
    produced = [name for name in node.output if name in narrow]
    if node.op_type == "Cast":
        return [node, *(_cast(name, name + _SUFFIX, WIDE) for name in produced)]
    rounding = []
    for index, name in enumerate(node.output):
        if name in produced:
            node.output[index] = name + "/exact"
            rounding += _round(name, narrow_type)
    return [node, *rounding]


def _round(name: str, narrow_type: int) -> list[onnx.NodeProto]:
    """Round `name/exact` to the narrow type as `name`, and widen that again as `name/widened`."""
    return [_cast(name + "/exact", name, narrow_type), _cast(name, name + _SUFFIX, WIDE)]


def _narrow_input(source: onnx.ValueInfoProto, narrow_type: int) -> list[onnx.NodeProto]:
    source.type.tensor_type.elem_type = WIDE
    name = source.name
    return [
        _cast(name, name + "/narrow", narrow_type),
        _cast(name + "/narrow", name + _SUFFIX, WIDE),
    ]


def _widen_output(nodes: list[onnx.NodeProto], result: onnx.ValueInfoProto) -> onnx.NodeProto:
    """Replace a narrow output by its float32 form."""
    name = result.name
    for node in nodes:
        for index, output in enumerate(node.output):
            if output == name:
                node.output[index] = name + "/narrow"
        for index, taken in enumerate(node.input):
            if taken == name:
                node.input[index] = name + "/narrow"
    result.type.tensor_type.elem_type = WIDE
    return _cast(name + "/narrow", name, WIDE)


def _cast(source: str, target: str, dtype: int) -> onnx.NodeProto:
    return helper.make_node("Cast", [source], [target], name=f"{source}/as/{target}", to=dtype)
