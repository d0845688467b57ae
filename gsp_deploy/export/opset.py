"""Convert a graph to another opset: from 18 to 17 for old runtimes, or to a later one."""

from __future__ import annotations

import os

import onnx
import onnx_ir as ir
from onnx import version_converter
from onnx_ir.passes.common import NameFixPass

from gsp_deploy.errors import GspDeployError, UsageError, flattened

# Opset 18 moved the axes of these operators from an attribute to an input.
_REDUCTIONS = frozenset(
    {
        "ReduceL1", "ReduceL2", "ReduceLogSum", "ReduceLogSumExp", "ReduceMax", "ReduceMean",
        "ReduceMin", "ReduceProd", "ReduceSumSquare",
    }
)  # fmt: skip
# Other operators that changed in 18; what a backbone uses of them is the same in 17 unless noted.
_NEW_IN_18 = frozenset({"BitwiseAnd", "BitwiseNot", "BitwiseOr", "BitwiseXor", "CenterCropPad",
                        "Col2Im", "GroupNormalization", "Mish", "OptionalHasElement"})  # fmt: skip


def downgrade_to_17(model: ir.Model) -> None:
    """Rewrite a model of opset 18 in place so that it is valid in opset 17.

    Raises:
        GspDeployError: an operator has no form in opset 17.
    """
    for node in model.graph:
        if node.op_type in _NEW_IN_18 or (node.op_type == "Resize" and "axes" in node.attributes):
            raise GspDeployError(
                f"node {node.name} ({node.op_type}) has no form in opset 17; export with opset 18"
            )
        if node.op_type in _REDUCTIONS:
            _axes_to_attribute(node)
        elif node.op_type == "Split":
            node.attributes.pop("num_outputs", None)
    model.opset_imports[""] = 17


def raise_opset(network: ir.Model, least: int, source: str | os.PathLike[str]) -> ir.Model:
    """Return a graph of opset `least`, or the graph itself if its opset is not older.

    Raises:
        UsageError: an operator cannot be converted; the message names `source`.
    """
    own = network.opset_imports[""]
    if own >= least:
        return network
    try:
        ir.external_data.load_to_model(network)
        proto: onnx.ModelProto = ir.serde.serialize_model(network)
        converted = version_converter.convert_version(proto, least)
    except Exception as error:  # it raises RuntimeError, and protobuf's errors for large graphs
        raise UsageError(
            f"{source} is of opset {own} and cannot be converted to opset {least}, which this "
            f"precision needs ({flattened(error, 160)}); adopt the network from a file of that "
            "opset"
        ) from error
    raised = ir.serde.deserialize_model(converted)
    NameFixPass()(raised)  # the converter leaves its own nodes without names
    return raised


def _axes_to_attribute(node: ir.Node) -> None:
    """Move the axes back; with axes `noop_with_empty_axes`, new in 18, says nothing."""
    does_nothing = node.attributes.pop("noop_with_empty_axes", None)
    if len(node.inputs) < 2 or node.inputs[1] is None:
        if does_nothing is not None and does_nothing.as_int():
            raise GspDeployError(
                f"node {node.name} ({node.op_type}) reduces nothing, which opset 17 cannot say; "
                "export with opset 18"
            )
        return
    axes = node.inputs[1].const_value
    if axes is None:
        raise GspDeployError(
            f"node {node.name} ({node.op_type}) computes its axes, which opset 17 cannot; "
            "export with opset 18"
        )
    node.attributes["axes"] = ir.AttrInt64s("axes", [int(axis) for axis in axes.numpy()])
    node.resize_inputs(1)
