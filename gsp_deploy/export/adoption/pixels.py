"""Turn pixels after their cast to floats, because TensorRT takes uint8 only from input to Cast."""

from __future__ import annotations

import onnx_ir as ir


def cast_before_turning(graph: ir.Graph) -> None:
    """Swap each Transpose of uint8 values with the Cast nodes that are its only readers."""
    for node in list(graph):
        source = node.inputs[0] if node.inputs else None
        if node.op_type != "Transpose" or source is None or source.dtype != ir.DataType.UINT8:
            continue
        casts = [use.node for use in node.outputs[0].uses()]
        if not casts or any(cast.op_type != "Cast" for cast in casts):
            continue
        for cast in casts:
            _swap(graph, node, cast, source)
        graph.remove(node, safe=True)


def _swap(graph: ir.Graph, turn: ir.Node, cast: ir.Node, source: ir.Value) -> None:
    result = cast.outputs[0]
    uses = list(result.uses())
    cast.replace_input_with(0, source)
    again = ir.node(
        "Transpose", [result], attributes=dict(turn.attributes), name=f"{turn.name}/{cast.name}"
    )
    turned = again.outputs[0]
    turned.name, turned.type = f"{result.name}/turned", result.type
    graph.insert_after(cast, again)
    for use in uses:
        use.node.replace_input_with(use.idx, turned)
