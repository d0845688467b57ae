"""Half precision: which nodes compute in it, where the casts are, and how far results move."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import pytest
import torch
from onnx import numpy_helper

from gsp_deploy import open_session
from gsp_deploy.errors import GspDeployError, UsageError
from gsp_deploy.export.graph import GraphScope
from gsp_deploy.export.lowering import lower_precision

BOTH = ("attributes", "weights")
COST = "gsp/product"  # the convolution that is part of the cost
ERROR = {"fp16": 4e-3, "bf16": 3e-2}
FLOAT, HALF, INT64 = ir.DataType.FLOAT, ir.DataType.FLOAT16, ir.DataType.INT64


def small_network(peak: float = 1.0) -> ir.Model:
    """x (2, 4) to relu(x W) + x, and its mean over the columns."""
    x = ir.Value(name="x", shape=ir.Shape([2, 4]), type=ir.TensorType(FLOAT))
    graph = ir.Graph([x], [], nodes=[], opset_imports={"": 18}, name="small")
    scope = GraphScope(graph, "body")
    weight = np.eye(4, dtype=np.float32) * np.float32(peak)
    product = scope.op("MatMul", x, scope.constant("weight", weight), name="product")
    active = scope.op("Relu", product, name="active")
    total = scope.op("Add", active, x, name="total")
    mean = scope.reduce("ReduceMean", total, (1,), name="mean")
    graph.outputs.extend([total, mean])
    for value, shape in ((product, [2, 4]), (active, [2, 4]), (total, [2, 4]), (mean, [2, 1])):
        value.type, value.shape = ir.TensorType(FLOAT), ir.Shape(shape)
    return ir.Model(graph, ir_version=10)


def run(model: ir.Model, x: np.ndarray) -> list[np.ndarray]:
    proto = ir.to_proto(model)
    onnx.checker.check_model(proto, full_check=True)
    found: list[np.ndarray] = onnx.reference.ReferenceEvaluator(proto).run(None, {"x": x})
    return found


def test_weights_are_stored_low_and_each_value_is_cast_once() -> None:
    model = small_network()
    kept = lower_precision(model, "fp16")
    graph = model.graph
    assert kept == {}
    assert {w.dtype for w in graph.initializers.values()} == {HALF, INT64}
    casts = [node for node in graph if node.op_type == "Cast"]
    assert [c.inputs[0].name for c in casts if c.attributes["to"].value == HALF] == ["x"]
    assert all(
        value.dtype == HALF for node in graph if node.op_type != "Cast" for value in node.outputs
    )
    assert [(o.name, o.dtype) for o in graph.outputs] == [
        ("body/total", FLOAT), ("body/mean", FLOAT),
    ]  # fmt: skip
    x = np.array([[1, -2, 3, 0.1], [4, 5, -6, 7]], np.float32)
    total, mean = run(model, x)
    np.testing.assert_allclose(total, np.maximum(x, 0) + x, rtol=1e-3)
    np.testing.assert_allclose(mean, total.mean(axis=1, keepdims=True), rtol=2e-3)


def test_outputs_may_stay_low_and_inputs_never_change() -> None:
    model = small_network()
    lower_precision(model, "fp16", restore_outputs=False)
    assert {o.dtype for o in model.graph.outputs} == {HALF}
    assert model.graph.inputs[0].dtype == FLOAT


@pytest.mark.parametrize(("peak", "precision", "fits"), [
    (65504.0, "fp16", True), (70000.0, "fp16", False), (70000.0, "bf16", True),
    (3.4e38, "bf16", False),
])  # fmt: skip
def test_weights_beyond_the_range_are_named(peak: float, precision: str, fits: bool) -> None:
    model = small_network(peak)
    if fits:
        lower_precision(model, precision)
        return
    with pytest.raises(GspDeployError, match=r"gsp/const/weight reaches .* beyond the range"):
        lower_precision(model, precision)


def test_operators_without_a_low_form_stay_and_are_reported() -> None:
    """A convolution has no bfloat16 form in opset 18; what surrounds it has."""
    x = ir.Value(name="x", shape=ir.Shape([1, 2, 4, 4]), type=ir.TensorType(FLOAT))
    graph = ir.Graph([x], [], nodes=[], opset_imports={"": 18}, name="conv")
    scope = GraphScope(graph, "body")
    weight = scope.constant("weight", np.ones((3, 2, 1, 1), np.float32))
    first = scope.op("Relu", x, name="first")
    conv = scope.op("Conv", first, weight, name="conv")
    last = scope.op("Relu", conv, name="last")
    graph.outputs.append(last)
    for value, channels in ((first, 2), (conv, 3), (last, 3)):
        value.type, value.shape = ir.TensorType(FLOAT), ir.Shape([1, channels, 4, 4])
    model = ir.Model(graph, ir_version=10)
    kept = lower_precision(model, "bf16")
    assert kept == {"Conv": "Conv has no bfloat16 form in opset 18"}
    assert (first.dtype, conv.dtype, last.dtype) == (
        ir.DataType.BFLOAT16, FLOAT, ir.DataType.BFLOAT16,
    )  # fmt: skip
    assert weight.dtype == FLOAT
    onnx.checker.check_model(ir.to_proto(model), full_check=True)


@pytest.mark.parametrize("precision", ["fp16", "bf16"])
def test_the_whole_model_stays_near_float32(
    precision, exported, conv_model, photographs, errors_against_torch
) -> None:
    inputs = photographs.prepare(photographs.inputs, "float32")
    errors = errors_against_torch(exported(precision=precision), conv_model, inputs)
    assert max(errors.values()) < ERROR[precision]
    assert errors["embedding"] > 1e-5  # it did compute in another precision


@pytest.mark.parametrize("precision", ["fp16", "bf16"])
def test_backbone_low_and_pooling_in_float32(precision, exported) -> None:
    graph = onnx.shape_inference.infer_shapes(onnx.load(exported(precision=precision))).graph
    low = {"fp16": onnx.TensorProto.FLOAT16, "bf16": onnx.TensorProto.BFLOAT16}[precision]
    types = {v.name: v.type.tensor_type.elem_type for v in (*graph.value_info, *graph.output)}
    stored = {w.name: w.data_type for w in graph.initializer}
    for node in graph.node:
        if node.op_type == "Conv" and node.name != COST:  # the backbone's, and the 1x1 embedding
            assert types[node.output[0]] == low, node.name
            assert {stored[name] for name in node.input if name in stored} == {low}
    pooling = [n for n in graph.node if n.name.startswith("gsp/") and n.name != "gsp/embed"]
    assert COST in {n.name for n in pooling}
    after = [n for n in pooling if n.op_type not in ("Reshape", "Cast")]
    assert len(after) > 30
    assert {types[n.output[0]] for n in after} <= {
        onnx.TensorProto.FLOAT, onnx.TensorProto.BOOL, onnx.TensorProto.INT64,
    }  # fmt: skip


@pytest.mark.parametrize("io_precision", ["fp16", "bf16"])
@pytest.mark.parametrize("precision", ["fp32", "fp16", "bf16"])
def test_inputs_and_outputs_in_half_precision(
    precision, io_precision, build_head, export_head, errors_against_torch, features
) -> None:
    """The types of inputs and outputs say nothing of what the head computes in."""
    model = build_head(pooling="gem")
    path = export_head(
        model, precision=precision, io_precision=io_precision, iterations=8, outputs=BOTH
    )
    graph = onnx.load(path).graph
    wanted = {"fp16": onnx.TensorProto.FLOAT16, "bf16": onnx.TensorProto.BFLOAT16}
    types = {v.type.tensor_type.elem_type for v in (*graph.input, *graph.output)}
    assert types == {wanted[io_precision]}
    kernel = next(w for w in graph.initializer if w.name == "gsp/const/embed_kernel")
    assert kernel.data_type == wanted.get(precision, onnx.TensorProto.FLOAT)
    rounded = torch.from_numpy(features).to(getattr(torch, _TORCH[io_precision])).float().numpy()
    errors = errors_against_torch(path, model, rounded)
    assert max(errors.values()) < ERROR["bf16" if "bf16" in (precision, io_precision) else "fp16"]
    with open_session(path) as session:
        assert session.info.manifest.inputs[0].dtype == _TORCH[io_precision]
        assert session.embed(features).dtype == np.float32


_TORCH = {"fp16": "float16", "bf16": "bfloat16"}


def test_half_precision_outputs_of_float32_are_float32_rounded(
    build_head, export_head, features
) -> None:
    model = build_head()
    representable = features.astype(np.float16).astype(np.float32)
    found = {}
    for io_precision in ("fp32", "fp16"):
        with open_session(export_head(model, io_precision=io_precision, iterations=8)) as session:
            found[io_precision] = session.embed(representable)
    assert np.array_equal(found["fp16"], found["fp32"].astype(np.float16).astype(np.float32))


def test_the_heads_own_weights_are_held_to_the_range(build_head, export_head) -> None:
    model = build_head()
    with torch.no_grad():
        model.head.embed.weight[2, 3] = 1e5
    with pytest.raises(GspDeployError, match=r"embed_kernel reaches 1e\+05.*float16; use bf16"):
        export_head(model, precision="fp16")
    export_head(model, precision="bf16")


@pytest.mark.parametrize("iterations", [None, 3])
def test_features_that_overflow_are_refused(iterations, build_head, export_head) -> None:
    model = build_head()
    with torch.no_grad():
        model.head.embed.weight[:] = 6e4
    with pytest.raises(GspDeployError, match="overflow on the calibration images"):
        export_head(model, precision="fp16", iterations=iterations)


def test_an_input_beyond_float16_is_refused_and_not_made_infinite(
    build_head, export_head, features
) -> None:
    path = export_head(build_head(), io_precision="fp16", iterations=3)
    with (
        open_session(path) as session,
        pytest.raises(UsageError, match="too large for the model's float16"),
    ):
        session.embed(features * 1e5)


def test_kept_weights_are_the_rounded_ones(build_head, export_head) -> None:
    model = build_head()
    graph = onnx.load(export_head(model, precision="fp16")).graph
    kernel = next(w for w in graph.initializer if w.name == "gsp/const/embed_kernel")
    expected = model.head.embed.weight.detach().half().numpy()
    assert np.array_equal(numpy_helper.to_array(kernel)[:, :, 0, 0], expected)
