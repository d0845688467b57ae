"""Rewrite int8 activations as uint8, which x86-64 processors multiply by int8 weights faster.

An exported file has signed activations with zero point 0, as TensorRT requires. The rewritten
model computes the same numbers:

1. An activation's zero point becomes 128 of type uint8. Its scale stays, so each integer q is
   q + 128 and stands for the same value.
2. Between a DequantizeLinear and a QuantizeLinear of the same scale, Relu, Clip and MaxPool run on
   the integers. They keep the order of values, so rounding before them or after them is the same.
3. Weights, and all that computes in float32, stay as they are.

A file that does not fit these rules as a whole is left alone. `plugins/runtime/src/unsigned.cpp`
has the same rules for the C++ library.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from gsp_deploy.artifact.external_data import without_links

ZERO_POINT = 128
_QUANTISE, _DEQUANTISE = "QuantizeLinear", "DequantizeLinear"
_MONOTONE = ("Relu", "Clip", "MaxPool")
_FIRST_OPERATOR_SET = 13  # Clip and MaxPool take uint8
_SCALE, _ZERO_POINT = 1, 2  # inputs of both operators


def unsign(path: Path) -> bytes | None:
    """Return the model with uint8 activations, or None if it has no signed ones to rewrite.

    Raises:
        Exception: protobuf or onnx cannot read the file.
    """
    with without_links(path) as plain:
        model = onnx.load(plain)
    if _operator_set(model) < _FIRST_OPERATOR_SET or not unsign_graph(model.graph):
        return None
    return bytes(model.SerializeToString())


def unsign_graph(graph: onnx.GraphProto) -> bool:
    """Rewrite a graph in place; return whether it had signed activations, and all of them fit."""
    points = _zero_points(graph)
    if not points:
        return False
    for tensor in graph.initializer:
        if tensor.name in points:
            value = np.full(tuple(tensor.dims), ZERO_POINT, np.uint8)
            tensor.CopyFrom(numpy_helper.from_array(value, tensor.name))
    _stay_in_integers(graph)
    del graph.value_info[:]  # it has the old types
    return True


def _operator_set(model: onnx.ModelProto) -> int:
    """Return the version of ONNX's own operators."""
    own = [entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")]
    return own[-1] if own else 0


def _zero_points(graph: onnx.GraphProto) -> set[str]:
    """Return the names of the activations' zero points; none unless every one can be replaced."""
    quantised = {node.output[0] for node in graph.node if node.op_type == _QUANTISE}
    points, others = set(), {value.name for value in graph.output}
    for node in graph.node:
        is_pair = node.op_type == _QUANTISE or (
            node.op_type == _DEQUANTISE and node.input[0] in quantised
        )
        if not is_pair:
            others.update(node.input)
        elif len(node.input) <= _ZERO_POINT:
            return set()
        else:
            points.add(node.input[_ZERO_POINT])
            others.update(node.input[:_ZERO_POINT] if node.op_type == _QUANTISE else ())
    stored = {tensor.name: tensor for tensor in graph.initializer}
    fits = all(name in stored and _is_signed_zero(stored[name]) for name in points)
    return points if fits and not others & (points | quantised) else set()


def _is_signed_zero(tensor: onnx.TensorProto) -> bool:
    is_inside = tensor.data_location != TensorProto.EXTERNAL
    return (
        tensor.data_type == TensorProto.INT8
        and is_inside
        and not numpy_helper.to_array(tensor).any()
    )


def _stay_in_integers(graph: onnx.GraphProto) -> None:
    """Run the operators of rule 2 on the integers; each node is replaced where it is."""
    stored = {tensor.name: tensor for tensor in graph.initializer}
    users = defaultdict(list)
    for node in graph.node:
        for name in node.input:
            users[name].append(node)
    kept = {value.name for value in graph.output}
    for node in [node for node in graph.node if node.op_type == _DEQUANTISE]:
        chain = list(_chain(node, users, kept))
        if len(chain) < 2 or chain[-1].op_type != _QUANTISE:
            continue
        scales = [_scalar(stored, end.input[_SCALE]) for end in (node, chain[-1])]
        bounds = [_bounds(stored, step, scales[0]) for step in chain[:-1]]
        if scales[0] is None or scales[0] != scales[1] or None in bounds:
            continue
        for end in (node, chain[-1]):
            end.CopyFrom(helper.make_node("Identity", end.input[:1], end.output, end.name))
        for step, found in zip(chain, bounds, strict=False):
            if found:
                names = [f"{step.output[0]}/{side}" for side in ("least", "most")]
                for name, bound in zip(names, found, strict=True):
                    graph.initializer.append(
                        numpy_helper.from_array(np.array(bound, np.uint8), name)
                    )
                inputs = [step.input[0], *names]
                step.CopyFrom(helper.make_node("Clip", inputs, step.output, step.name))


def _chain(
    node: onnx.NodeProto, users: dict[str, list[onnx.NodeProto]], kept: set[str]
) -> Iterator[onnx.NodeProto]:
    """Yield the monotone operators after a node, and the first other one, if each is read once."""
    while len(node.output) == 1 and node.output[0] not in kept:
        readers = users[node.output[0]]
        if len(readers) != 1 or readers[0].input[0] != node.output[0]:
            return
        node = readers[0]
        yield node
        if node.op_type not in _MONOTONE:
            return


def _scalar(stored: dict[str, onnx.TensorProto], name: str) -> np.float32 | None:
    """Return a stored float32 scalar, or None."""
    tensor = stored.get(name)
    if tensor is None or tensor.data_type != TensorProto.FLOAT or tensor.dims:
        return None
    return np.float32(numpy_helper.to_array(tensor).item())


def _bounds(
    stored: dict[str, onnx.TensorProto], node: onnx.NodeProto, scale: np.float32 | None
) -> tuple[int, ...] | None:
    """Return the least and the most integer of an operator; none for MaxPool, None if unknown."""
    if node.op_type == "MaxPool":
        return ()
    if scale is None:
        return None
    least, most = np.float32(0), np.float32(np.inf)
    if node.op_type == "Clip":
        given = [_scalar(stored, name) for name in node.input[1:]]
        if len(given) != 2 or given[0] is None or given[1] is None:
            return None
        least, most = given[0], given[1]
    integers = np.rint(np.array([least, most]) / scale) + ZERO_POINT
    return tuple(int(value) for value in np.clip(integers, 0, 255))
