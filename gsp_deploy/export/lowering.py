"""A graph pass that makes a backbone compute in fp16 or bf16, by explicit casts.

1. An operator computes in the low precision if its ONNX schema admits that for all its floating
   inputs, and if it computes no statistics (`statistics.py`): softmax and normalisations overflow
   and lose digits. The others stay in float32, and are reported.
2. Weights of low-precision operators are stored in it.
3. Where a value passes from one precision to the other, a Cast is inserted, once per value. What
   reads a value's shape alone takes it in either.
4. Names of values stay, so that two precisions of one model can be compared node by node.
5. The graph's inputs and outputs keep their types.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
import onnx_ir as ir

from gsp_deploy.errors import GspDeployError
from gsp_deploy.export.statistics import statistics_of
from gsp_deploy.precision import PRECISIONS

FLOAT = ir.DataType.FLOAT
# The precisions that a graph can be cast to, and ONNX's type of each.
LOW_PRECISION: dict[str, ir.DataType] = {
    row.word: ir.DataType[row.element.onnx] for row in PRECISIONS.values() if row.lowered
}

_SHAPES = frozenset({"Shape", "Size"})


def lower_precision(
    model: ir.Model,
    precision: str,
    *,
    restore_outputs: bool = True,
    takes_part: Callable[[ir.Node], bool] = lambda node: True,
) -> dict[str, str]:
    """Rewrite `model` in place to compute in `fp16` or `bf16`.

    Args:
        model: a graph in float32.
        precision: `fp16` or `bf16`.
        restore_outputs: cast the outputs back to float32; without it they keep the precision.
        takes_part: whether a node may be lowered; the others stay in float32, unreported.

    Returns:
        The operators left in float32 and why, by operator type.

    Raises:
        GspDeployError: a weight does not fit the precision's range.
    """
    lowering = _Lowering(model, LOW_PRECISION[precision], takes_part)
    lowering.run()
    if restore_outputs:
        lowering.restore_outputs()
    return lowering.kept


class _Lowering:
    def __init__(
        self, model: ir.Model, low: ir.DataType, takes_part: Callable[[ir.Node], bool]
    ) -> None:
        self.takes_part = takes_part
        self.graph = model.graph
        self.opset = model.opset_imports[""]
        self.low = low
        self.kept: dict[str, str] = {}
        self.casts: dict[tuple[ir.Value, ir.DataType], ir.Value] = {}
        self.statistics = statistics_of(model.graph, low)

    def run(self) -> None:
        for node in list(self.graph):
            target = self._compute_type(node)
            self._feed(node, target)
            for value in node.outputs:
                if value.dtype == FLOAT and target == self.low and _is_generic(node, value, self):
                    value.dtype = self.low
        self._drop_unused_weights()

    def restore_outputs(self) -> None:
        """Cast the graph's outputs back to float32, under their own names."""
        for index, value in enumerate(self.graph.outputs):
            if value.dtype == self.low:
                name = value.name
                value.name = f"{name}/{self.low.name.lower()}"
                restored = self._cast(value, FLOAT, before=None)
                restored.name = name
                self.graph.outputs[index] = restored

    def _compute_type(self, node: ir.Node) -> ir.DataType:
        """Return the low type if the schema admits it for every generic floating input."""
        if not self.takes_part(node):
            return FLOAT
        schema = _schema(node, self.opset)
        floating = [i for i, v in enumerate(node.inputs) if v is not None and self._is_float(v)]
        if schema is None:
            return self._keep(node, "not a standard operator")
        generic = [i for i in floating if _constraint(schema, i) is not None]
        if not generic:
            return FLOAT
        if node in self.statistics:
            return self._keep(node, self.statistics[node])
        for index in generic:
            if _type_name(self.low) not in (_constraint(schema, index) or ()):
                return self._keep(
                    node,
                    f"{node.op_type} has no {self.low.name.lower()} form in opset {self.opset}",
                )
        return self.low

    def _keep(self, node: ir.Node, reason: str) -> ir.DataType:
        self.kept[node.op_type] = reason
        return FLOAT

    def _is_float(self, value: ir.Value) -> bool:
        return value.dtype in (FLOAT, self.low)

    def _feed(self, node: ir.Node, target: ir.DataType) -> None:
        if node.op_type in _SHAPES:
            return
        schema = _schema(node, self.opset)
        for index, value in enumerate(node.inputs):
            if value is None or not self._is_float(value):
                continue
            generic = schema is not None and _constraint(schema, index) is not None
            wanted = target if generic else FLOAT
            if value.dtype != wanted:
                node.replace_input_with(index, self._as_type(value, wanted, node))

    def _as_type(self, value: ir.Value, dtype: ir.DataType, consumer: ir.Node) -> ir.Value:
        if (value, dtype) not in self.casts:
            self.casts[value, dtype] = (
                self._convert_weight(value, dtype)
                if value.is_initializer()
                else self._cast(value, dtype, before=consumer)
            )
        return self.casts[value, dtype]

    def _cast(self, value: ir.Value, dtype: ir.DataType, before: ir.Node | None) -> ir.Value:
        name = f"{value.name}/{dtype.name.lower()}"
        node = ir.node("Cast", [value], attributes={"to": int(dtype)}, name=name)
        result = node.outputs[0]
        result.name, result.shape, result.dtype = name, value.shape, dtype
        producer = value.producer()
        if producer is not None:
            self.graph.insert_after(producer, node)
        elif before is not None:
            self.graph.insert_before(self.graph[0], node)
        else:
            self.graph.append(node)
        return result

    def _convert_weight(self, value: ir.Value, dtype: ir.DataType) -> ir.Value:
        assert value.const_value is not None
        lowered = as_type(value.const_value.numpy(), dtype, value.name or "")
        name = f"{value.name}/{dtype.name.lower()}"
        result = ir.Value(
            name=name,
            shape=value.shape,
            type=ir.TensorType(dtype),
            const_value=ir.tensor(lowered, name=name),
        )
        self.graph.register_initializer(result)
        return result

    def _drop_unused_weights(self) -> None:
        for name, value in list(self.graph.initializers.items()):
            if not value.uses() and not value.is_graph_output():
                del self.graph.initializers[name]


def as_type(array: np.ndarray, dtype: ir.DataType, name: str) -> np.ndarray:
    """Return a weight in another floating-point type; errors call it `name`.

    Raises:
        GspDeployError: a value does not fit the type's range.
    """
    with np.errstate(over="ignore"):
        converted = array.astype(dtype.numpy())
    if np.any(np.isfinite(array) & ~np.isfinite(converted.astype(np.float32))):
        raise GspDeployError(
            f"weight {name} reaches {np.abs(array).max():.3g}, beyond the range of "
            f"{dtype.name.lower()}; use bf16 or fp32"
        )
    return converted


def _schema(node: ir.Node, opset: int) -> onnx.defs.OpSchema | None:
    if node.domain not in ("", "ai.onnx"):
        return None
    try:
        return onnx.defs.get_schema(node.op_type, opset, "")
    except onnx.defs.SchemaError:
        return None


def _constraint(schema: onnx.defs.OpSchema, index: int) -> list[str] | None:
    """Return the types that input `index` may have, or None where its type is fixed."""
    formal = schema.inputs[min(index, len(schema.inputs) - 1)]
    for constraint in schema.type_constraints:
        if constraint.type_param_str == formal.type_str:
            return list(constraint.allowed_type_strs)
    return None


def _is_generic(node: ir.Node, value: ir.Value, lowering: _Lowering) -> bool:
    """Whether an output's type follows the node's floating inputs."""
    schema = _schema(node, lowering.opset)
    if schema is None:
        return False
    index = min(value.index() or 0, len(schema.outputs) - 1)
    followed = {
        schema.inputs[min(i, len(schema.inputs) - 1)].type_str
        for i, v in enumerate(node.inputs)
        if v is not None and v.dtype == lowering.low
    }
    return schema.outputs[index].type_str in followed


def _type_name(dtype: ir.DataType) -> str:
    """Return an element type as ONNX's operator schemas write it."""
    return f"tensor({dtype.name.lower()})"
