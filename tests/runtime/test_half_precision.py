"""Emulated half precision: every result is rounded, and nothing else changes."""

from __future__ import annotations

from pathlib import Path

import ml_dtypes
import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from gsp_deploy import open_session
from gsp_deploy.artifact.half_precision import widen
from gsp_deploy.base.elements import ELEMENTS

BFLOAT16, FLOAT16 = ELEMENTS["bfloat16"], ELEMENTS["float16"]
KINDS = {
    "bfloat16": (TensorProto.BFLOAT16, ml_dtypes.bfloat16, BFLOAT16),
    "float16": (TensorProto.FLOAT16, np.float16, FLOAT16),
}


def low_graph(path: Path, dtype: int, numpy_dtype: type) -> Path:
    """Write y = relu(x W) + x, all of it in half precision, and z, its product in between."""
    weight = np.random.default_rng(0).standard_normal((4, 4)).astype(numpy_dtype)
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["z"]),
        helper.make_node("Relu", ["z"], ["r"]),
        helper.make_node("Add", ["r", "x"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes,
        "low",
        [helper.make_tensor_value_info("x", dtype, ["n", 4])],
        [helper.make_tensor_value_info(name, dtype, ["n", 4]) for name in ("y", "z")],
        [numpy_helper.from_array(weight, "w")],
    )
    opset = [helper.make_opsetid("", 22)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=10), path)
    return path


@pytest.mark.parametrize("kind", KINDS)
def test_each_result_is_rounded_once(kind: str, tmp_path: Path) -> None:
    dtype, low, element = KINDS[kind]
    path = low_graph(tmp_path / "low.onnx", dtype, low)
    weight = numpy_helper.to_array(onnx.load(path).graph.initializer[0]).astype(np.float32)
    session = onnxruntime.InferenceSession(widen(path, element))
    x = np.random.default_rng(1).standard_normal((5, 4)).astype(np.float32)
    y, z = session.run(["y", "z"], {"x": x})

    def rounded(values: np.ndarray) -> np.ndarray:
        return values.astype(low).astype(np.float32)

    product = rounded(rounded(x) @ weight)
    assert y.dtype == z.dtype == np.float32
    np.testing.assert_array_equal(z, product)
    np.testing.assert_array_equal(y, rounded(np.maximum(product, 0) + rounded(x)))


@pytest.mark.parametrize("kind", KINDS)
def test_a_graph_without_it_is_left_alone(kind: str, head_export) -> None:
    assert widen(head_export(), KINDS[kind][2]) is None


@pytest.mark.parametrize(
    "options",
    [
        {"precision": "bf16"},
        {"io_precision": "bf16"},
        {"precision": "bf16", "io_precision": "fp16"},
    ],
)
def test_exports_in_bfloat16_run_on_the_cpu(options, head_export, features) -> None:
    with open_session(head_export()) as exact, open_session(head_export(**options)) as session:
        found, expected = session.run(features), exact.run(features)
        assert "bfloat16 emulated" in session.info.device
        assert "emulated" not in exact.info.device
    for name, array in found.items():
        error = np.abs(array - expected[name]).max() / np.abs(expected[name]).max()
        assert 1e-6 < error < 3e-2


def test_an_input_in_bfloat16_is_rounded_too(head_export, features) -> None:
    rounded = features.astype(ml_dtypes.bfloat16).astype(np.float32)
    assert not np.array_equal(rounded, features)
    with open_session(head_export(io_precision="bf16")) as session:
        assert np.array_equal(session.embed(features), session.embed(rounded))


def test_the_widened_model_keeps_its_description(head_export) -> None:
    path = head_export(precision="bf16")
    inside = onnx.load_from_string(widen(path, BFLOAT16))
    assert {p.key for p in inside.metadata_props} == {p.key for p in onnx.load(path).metadata_props}
    names = [node.name for node in inside.graph.node]
    assert len(set(names)) == len(names)
