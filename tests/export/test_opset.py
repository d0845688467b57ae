"""Operator sets from 17 to 22, and the operators without a form in 17."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from gsp_deploy.errors import GspDeployError, UsageError
from gsp_deploy.export import ExportOptions
from gsp_deploy.export.graph import GraphScope
from gsp_deploy.export.opset import downgrade_to_17

BOTH = ("attributes", "weights")


@pytest.mark.parametrize("pooling", ["gap", "gmp", "gem"])
@pytest.mark.parametrize("opset", range(17, 23))
def test_every_opset_computes_the_same(
    opset, pooling, build_head, export_head, errors_against_torch, features
) -> None:
    model = build_head(pooling=pooling, max_residual=True)
    path = export_head(model, opset=opset, iterations=8, outputs=BOTH)
    assert max(errors_against_torch(path, model, features).values()) < 3e-6
    written = onnx.load(path)
    assert [(o.domain, o.version) for o in written.opset_import] == [("", opset)]
    onnx.checker.check_model(written, full_check=True)


@pytest.mark.parametrize(
    ("opset", "options", "error"),
    [
        (17, {"precision": "fp16"}, 5e-3),
        (17, {"precision": "bf16", "io_precision": "bf16"}, 3e-2),
        (22, {}, 1e-5),
    ],
)
def test_the_backbone_in_the_oldest_and_the_newest(
    opset, options, error, exported, conv_model, photographs, errors_against_torch
) -> None:
    path = exported(opset=opset, **options)
    written = onnx.load(path)
    assert written.opset_import[0].version == opset
    onnx.checker.check_model(written, full_check=True)
    inputs = photographs.prepare(photographs.inputs, "float32")
    assert errors_against_torch(path, conv_model, inputs)["embedding"] < error


def test_bfloat16_takes_the_opset_whose_convolutions_know_it() -> None:
    assert ExportOptions().operator_set == 18
    assert ExportOptions(precision="bf16").operator_set == 22
    assert ExportOptions(io_precision="bf16").operator_set == 22


@pytest.mark.parametrize("opset", [16, 23, 0, -1])
def test_other_opsets_are_refused(opset: int) -> None:
    with pytest.raises(UsageError, match="from 17 to 22"):
        ExportOptions(opset=opset)


def one_node(kind: str, inputs: int = 1, **attributes: object) -> ir.Model:
    """Return a graph of one node on float inputs (2, 4)."""
    values = [
        ir.Value(name=f"x{i}", shape=ir.Shape([2, 4]), type=ir.TensorType(ir.DataType.FLOAT))
        for i in range(inputs)
    ]
    graph = ir.Graph(values, [], nodes=[], opset_imports={"": 18}, name="one")
    graph.outputs.append(GraphScope(graph, "body").op(kind, *values, name="node", **attributes))
    return ir.Model(graph, ir_version=10)


def test_an_operator_that_17_has_not_is_named() -> None:
    with pytest.raises(GspDeployError, match=r"body/node \(Mish\).*opset 18"):
        downgrade_to_17(one_node("Mish"))


def test_axes_that_are_computed_are_named() -> None:
    model = one_node("ReduceMean", inputs=2)
    with pytest.raises(GspDeployError, match=r"body/node \(ReduceMean\) computes its axes"):
        downgrade_to_17(model)


def test_reductions_and_splits_keep_their_meaning() -> None:
    model = one_node("Abs")
    graph, scope = model.graph, GraphScope(model.graph, "body")
    mean = scope.reduce("ReduceMean", graph.inputs[0], (1,), name="mean")
    everything = scope.op("ReduceMax", mean, name="peak", keepdims=0)
    split = ir.node("Split", [graph.inputs[0]], {"axis": 1, "num_outputs": 2}, num_outputs=2)
    split.outputs[0].name, split.outputs[1].name = "left", "right"
    graph.append(split)
    graph.outputs[:] = [mean, everything, *split.outputs]
    for value, shape in zip(graph.outputs, ([2, 1], [], [2, 2], [2, 2]), strict=True):
        value.type, value.shape = ir.TensorType(ir.DataType.FLOAT), ir.Shape(shape)
    downgrade_to_17(model)
    written = ir.to_proto(model)
    onnx.checker.check_model(written, full_check=True)
    x = np.arange(8, dtype=np.float32).reshape(2, 4)
    found = onnx.reference.ReferenceEvaluator(written).run(None, {"x0": x})
    np.testing.assert_array_equal(found[0], x.mean(axis=1, keepdims=True))
    assert found[1] == 5.5
    np.testing.assert_array_equal(found[2], x[:, :2])
    np.testing.assert_array_equal(found[3], x[:, 2:])
