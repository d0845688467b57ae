"""Find the layers of a backbone that can compute in int8."""

from __future__ import annotations

from dataclasses import dataclass

import onnx_ir as ir

_OPERATORS = frozenset({"Conv", "Gemm", "MatMul"})
# Runtimes fuse these into the operator before them; they share the operator's output range.
_ACTIVATIONS = frozenset({"Relu", "Clip"})
_PREFIX, _SUFFIX = "backbone.", ".weight"


@dataclass(frozen=True)
class Layer:
    """A convolution or matrix product with constant weights, and the ReLU or clip after it.

    Attributes:
        name: the PyTorch module that the weight is named after, or else the node.
        node: the ONNX node's name.
        operator: `Conv`, `Gemm` or `MatMul`.
        activation: the name of the activation's node, or None.
    """

    name: str
    node: str
    operator: str
    activation: str | None

    @property
    def nodes(self) -> tuple[str, ...]:
        """The names of the layer's nodes."""
        return (self.node,) if self.activation is None else (self.node, self.activation)


def find_layers(backbone: ir.Model) -> tuple[Layer, ...]:
    """Return the layers in the graph's order.

    Nodes that share a weight are skipped: one weight cannot be int8 for one node and float32 for
    another.
    """
    return tuple(_layer(node) for node in backbone.graph if _is_layer(node))


def _is_layer(node: ir.Node) -> bool:
    if node.op_type not in _OPERATORS or node.domain not in ("", "ai.onnx"):
        return False
    source, weight = node.inputs[:2]
    return (
        source is not None
        and not source.is_initializer()
        and weight is not None
        and weight.is_initializer()
        and weight.dtype == ir.DataType.FLOAT
        and len(weight.uses()) == 1
    )


def _layer(node: ir.Node) -> Layer:
    weight, activation = node.inputs[1], _activation(node.outputs[0])
    name = (weight.name if weight is not None else None) or ""
    module = name.removeprefix(_PREFIX).removesuffix(_SUFFIX)
    return Layer(
        name=module if name.endswith(_SUFFIX) else str(node.name),
        node=str(node.name),
        operator=node.op_type,
        activation=None if activation is None else str(activation.name),
    )


def _activation(output: ir.Value) -> ir.Node | None:
    uses = list(output.uses())
    if len(uses) != 1 or output.is_graph_output():
        return None
    consumer = uses[0].node
    return consumer if consumer.op_type in _ACTIVATIONS and uses[0].idx == 0 else None
