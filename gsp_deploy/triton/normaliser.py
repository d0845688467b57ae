"""Build an ONNX graph that normalises pixels, the first step of the ensemble."""

from __future__ import annotations

import onnx
from onnx import TensorProto, helper, numpy_helper

from gsp_deploy.artifact import TensorSpec
from gsp_deploy.base.elements import ELEMENTS
from gsp_deploy.config import PreprocessingSpec
from gsp_deploy.images.normalisation import affine

OPSET = 17


def normaliser(spec: PreprocessingSpec, network_input: TensorSpec) -> onnx.ModelProto:
    """Return a graph from uint8 `(B, H, W, 3)` to the network's normalised `(B, 3, H, W)`.

    The input is named `pixels`, the output has the name of the network's input.
    """
    scale, shift = affine(spec)
    constants = [numpy_helper.from_array(scale, "scale"), numpy_helper.from_array(shift, "shift")]
    dtype = TensorProto.DataType.Value(ELEMENTS[network_input.dtype].onnx)
    nodes = [
        helper.make_node("Cast", ["pixels"], ["float_pixels"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["float_pixels", "scale"], ["scaled"]),
        helper.make_node("Add", ["scaled", "shift"], ["shifted"]),
        helper.make_node("Transpose", ["shifted"], ["channels_first"], perm=[0, 3, 1, 2]),
        helper.make_node("Cast", ["channels_first"], [network_input.name], to=dtype),
    ]
    height, width = network_input.shape[2:]
    source = helper.make_tensor_value_info("pixels", TensorProto.UINT8, ["batch", height, width, 3])
    result = helper.make_tensor_value_info(network_input.name, dtype, ["batch", 3, height, width])
    graph = helper.make_graph(nodes, "normalise", [source], [result], constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=8)
    onnx.checker.check_model(model, full_check=True)
    return model
