"""Find out the precision of a network from its operators and weights."""

from __future__ import annotations

from collections import Counter

import onnx_ir as ir

from gsp_deploy.precision import PRECISIONS, PrecisionWord

_INTEGER_OPERATORS = frozenset(
    {
        "QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear", "QLinearConv",
        "QLinearMatMul", "ConvInteger", "MatMulInteger", "MatMulNBits",
    }
)  # fmt: skip


def precision_of(network: ir.Model) -> PrecisionWord:
    """Return `int8` if there is an integer operator, else the type of most weights."""
    if any(node.op_type in _INTEGER_OPERATORS for node in network.graph):
        return "int8"
    sizes: Counter[ir.DataType] = Counter()
    for value in network.graph.initializers.values():
        weight = value.const_value
        if weight is not None:
            sizes[weight.dtype] += weight.size
    floats = {ir.DataType[row.element.onnx]: row.word for row in PRECISIONS.values()}
    found = [dtype for dtype, _ in sizes.most_common() if floats.get(dtype, "int8") != "int8"]
    return floats[found[0]] if found else "fp32"
