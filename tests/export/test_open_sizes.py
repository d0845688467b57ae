"""Open sizes and batches are tried before a file promises them."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from gsp_deploy.config import GSPConfig, ModelConfig, PreprocessingSpec
from gsp_deploy.errors import GspDeployError
from gsp_deploy.export.open_sizes import check_open_sizes

CONFIG = ModelConfig("small_cnn_s8", GSPConfig(4, 8, 4), PreprocessingSpec(16, 16))


def graph(shape: list[int | str], target: list[int]) -> ir.Model:
    """A network that reshapes its images to what was traced, mean over the rest."""
    images = ir.Value(name="images", shape=ir.Shape(shape), type=ir.TensorType(ir.DataType.FLOAT))
    wanted = ir.tensor(np.array(target, np.int64), name="target")
    constant = ir.Value(name="target", const_value=wanted, shape=wanted.shape, type=ir.TensorType(
        ir.DataType.INT64))  # fmt: skip
    node = ir.Node("", "Reshape", [images, constant])
    out = node.outputs[0]
    out.name, out.type = "embedding", ir.TensorType(ir.DataType.FLOAT)
    made = ir.Graph(
        [images], [out], nodes=[node], initializers=[constant], opset_imports={"": 18}, name="g"
    )
    return ir.Model(made, ir_version=8)


def test_sizes_that_are_kept_pass() -> None:
    check_open_sizes(graph(["batch", 3, "height", "width"], [0, -1]), CONFIG)
    check_open_sizes(graph(["batch", 3, 16, 16], [0, -1]), CONFIG)


def test_a_graph_without_open_sizes_is_not_run() -> None:
    check_open_sizes(graph([1, 3, 16, 16], [7, 7]), CONFIG)


def test_a_size_that_fails_is_refused() -> None:
    with pytest.raises(GspDeployError, match=r"made for one image size \(as 3x3x48x80 it fails.*"
                       r"export it without --dynamic-size"):  # fmt: skip
        check_open_sizes(graph(["batch", 3, "height", "width"], [-1, 3 * 16 * 16 + 1]), CONFIG)


@pytest.mark.parametrize("target", [[1, 768], [1, -1]])
def test_a_batch_that_fails_or_is_folded_is_refused(target: list[int]) -> None:
    with pytest.raises(GspDeployError, match=r"one batch size \(as 3x3x16x16 it .*--static-batch"):
        check_open_sizes(graph(["batch", 3, 16, 16], target), CONFIG)
