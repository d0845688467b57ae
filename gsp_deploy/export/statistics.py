"""Find the nodes whose result a half-precision type would spoil, by what they compute.

1. Softmax, and every operator that normalises by itself: they sum exponentials or squares.
2. The same statistics written out: a reduction under a square root, the squares and the deviations
   from the mean that it reduces, and the division by it.
3. An L2 norm, the bound on it, and the division by it.
4. An operator with a scalar that the type cannot hold: one that becomes zero, such as the epsilon
   of a normalisation, or infinite, such as a mask.

NVIDIA's AutoCast and ONNX Runtime's mixed-precision tool keep the same nodes in float32.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import onnx_ir as ir

_SUMS = "sums exponentials or squares"
_PART = "where it computes the statistics of a normalisation"
_SCALAR = "where it takes a number beyond the type's range"
_WHOLE = frozenset({
    "Softmax", "LogSoftmax", "LayerNormalization", "RMSNormalization", "InstanceNormalization",
    "GroupNormalization", "LpNormalization", "MeanVarianceNormalization",
    "ReduceL2", "ReduceSumSquare", "ReduceLogSum", "ReduceLogSumExp",
})  # fmt: skip
_REDUCTIONS = frozenset({"ReduceMean", "ReduceSum", "ReduceSumSquare", "ReduceL2"})
# What may stand between a reduction, its root, and the division by it; and how many of them.
_BETWEEN = frozenset({
    "Add", "Max", "Clip", "Mul", "Div", "Sqrt", "Reciprocal", "Expand", "Unsqueeze", "Squeeze",
    "Reshape",
})  # fmt: skip
_LONGEST = 10


def statistics_of(graph: ir.Graph, low: ir.DataType) -> dict[ir.Node, str]:
    """Return the nodes that stay in float32, and why.

    Args:
        graph: in float32.
        low: the half-precision type that the other nodes will compute in.
    """
    found: dict[ir.Node, str] = {}
    for node in graph:
        if node.domain not in ("", "ai.onnx"):
            continue
        if node.op_type in _WHOLE:
            found[node] = f"{node.op_type} {_SUMS}"
        elif any(_is_spoilt(value, low) for value in node.inputs):
            found.setdefault(node, _SCALAR)
        if node.op_type in _REDUCTIONS:
            for part in _statistics(node):
                found.setdefault(part, _PART)
    return found


def _statistics(reduction: ir.Node) -> Iterator[ir.Node]:
    """Yield the nodes of the normalisation by a reduction; nothing if it normalises nothing."""
    after = list(_until_division(reduction.outputs[0], reduction.op_type == "ReduceL2"))
    if not after:
        return
    yield reduction
    yield from after
    squares = _producer(reduction, 0)
    if squares is None or squares.op_type not in ("Mul", "Pow"):
        return
    yield squares
    deviations = _producer(squares, 0)
    if deviations is not None and deviations.op_type == "Sub":
        yield deviations
        mean = _producer(deviations, 1)
        if mean is not None and mean.op_type in _REDUCTIONS:
            yield mean


def _until_division(value: ir.Value, is_root: bool, steps: int = _LONGEST) -> Iterator[ir.Node]:
    """Yield the nodes from a reduction to the division by its square root, along every path."""
    for use in value.uses() if steps else ():
        node, is_divisor = use.node, use.idx == 1 and use.node.op_type == "Div"
        if node.op_type not in _BETWEEN:
            continue
        if is_root and (is_divisor or node.op_type == "Reciprocal"):
            yield node
            if node.op_type == "Reciprocal":
                yield from (use.node for use in node.outputs[0].uses() if use.node.op_type == "Mul")
            continue
        rest = list(_until_division(node.outputs[0], is_root or node.op_type == "Sqrt", steps - 1))
        if rest:
            yield node
            yield from rest


def _producer(node: ir.Node, index: int) -> ir.Node | None:
    value = node.inputs[index] if index < len(node.inputs) else None
    return None if value is None else value.producer()


def _is_spoilt(value: ir.Value | None, low: ir.DataType) -> bool:
    """Whether a finite scalar other than 0 becomes 0 or infinite in the type."""
    constant = None if value is None else value.const_value
    if constant is None or constant.dtype != ir.DataType.FLOAT or constant.size != 1:
        return False
    number = constant.numpy().reshape(())
    with np.errstate(over="ignore", under="ignore"):
        lowered = number.astype(low.numpy()).astype(np.float32)
    return bool(np.isfinite(number) and number != 0 and (lowered == 0 or not np.isfinite(lowered)))
