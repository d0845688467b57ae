"""Small embedding networks as other exporters write them: every form of input, output and file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

SIDE, DIM, CHANNELS = 16, 5, 4
MEAN, STD = (0.5, 0.4, 0.3), (0.2, 0.25, 0.3)
_TYPES = {
    "float32": TensorProto.FLOAT,
    "float16": TensorProto.FLOAT16,
    "uint8": TensorProto.UINT8,
    "float64": TensorProto.DOUBLE,
}
_IR_OF_OLD_FILES = 3


def foreign_onnx(
    path: Path,
    *,
    dtype: str = "float32",
    channels_last: bool = False,
    batch: int | str | None = "N",
    size: int | str | None = SIDE,
    opset: int = 17,
    ir_version: int = 8,
    ending: str = "vector",
    outputs: Sequence[str] = ("features",),
    input_name: str = "pixel_values",
    works_with_batch: int | None = None,
    text_input: bool = False,
    external: bool = False,
    seed: int = 0,
) -> Path:
    """Write a convolution, ReLU, average and matrix product, and return the path.

    Args:
        path: the `.onnx` file.
        dtype, channels_last, batch, size, input_name: of the input; None is a size without a name.
        opset, ir_version: up to IR version 3 the weights are inputs too.
        ending: `vector` (B, D), `1x1` (B, D, 1, 1), `map` (B, C, h, w), or `tokens` (B, N, C).
        outputs: any of `features`, `map` and `logits`, in the file's order.
        works_with_batch: a Reshape inside has this batch, whatever the input says.
        text_input: a second input, which only `logits` reads.
        external: keep the weights in `<name>.weights` beside the file.
        seed: of the weights.
    """
    draw = np.random.default_rng(seed)
    compute = np.float16 if dtype == "float16" else np.float32
    weights = {
        "kernel": draw.standard_normal((CHANNELS, 3, 3, 3)).astype(compute) / 3,
        "matrix": draw.standard_normal((CHANNELS, DIM)).astype(compute),
    }
    nodes, x = _start(dtype, channels_last, weights, input_name)
    nodes += [
        helper.make_node("Conv", [x, "kernel"], ["conv"], "conv", strides=[2, 2], pads=[1] * 4),
        helper.make_node("Relu", ["conv"], ["map"], "relu"),
    ]
    nodes += _end(ending, works_with_batch, weights)
    shapes = {
        "features": {
            "vector": ["N", DIM], "1x1": ["N", CHANNELS, 1, 1],
            "map": ["N", CHANNELS, "h", "w"], "tokens": ["N", "n", CHANNELS],
        }[ending],
        "map": ["N", CHANNELS, "h", "w"],
        "logits": ["N", DIM],
    }  # fmt: skip
    element = TensorProto.FLOAT16 if dtype == "float16" else TensorProto.FLOAT
    results = [helper.make_tensor_value_info(name, element, shapes[name]) for name in outputs]
    sizes = [batch, size, size, 3] if channels_last else [batch, 3, size, size]
    inputs = [helper.make_tensor_value_info(input_name, _TYPES[dtype], sizes)]
    if text_input:
        inputs.append(helper.make_tensor_value_info("input_ids", element, ["N", DIM]))
    if "logits" in outputs:
        source = ["features", "input_ids"] if text_input else ["features", "features"]
        nodes.append(helper.make_node("Add", source, ["logits"], "logits"))
    tensors = [numpy_helper.from_array(value, name) for name, value in weights.items()]
    if ir_version <= _IR_OF_OLD_FILES:
        inputs += [helper.make_tensor_value_info(t.name, t.data_type, t.dims) for t in tensors]
    graph = helper.make_graph(nodes, "foreign", inputs, results, tensors)
    model = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=ir_version
    )
    if external:
        onnx.save(model, path, save_as_external_data=True, location=f"{path.name}.weights",
                  size_threshold=0)  # fmt: skip
    else:
        onnx.save(model, path)
    return path


def _start(
    dtype: str, channels_last: bool, weights: dict[str, np.ndarray], name: str
) -> tuple[list[onnx.NodeProto], str]:
    nodes, x = [], name
    if channels_last:
        nodes.append(helper.make_node("Transpose", [x], ["turned"], "turn", perm=[0, 3, 1, 2]))
        x = "turned"
    if dtype == "uint8":
        scale = 1 / (255 * np.array(STD, np.float32))
        weights["scale"] = scale.reshape(1, 3, 1, 1)
        weights["shift"] = (-np.array(MEAN, np.float32) / STD).astype(np.float32)[:, None, None]
        nodes += [
            helper.make_node("Cast", [x], ["float"], "cast", to=TensorProto.FLOAT),
            helper.make_node("Mul", ["float", "scale"], ["scaled"], "scale"),
            helper.make_node("Add", ["scaled", "shift"], ["normal"], "shift"),
        ]
        x = "normal"
    return nodes, x


def _end(
    ending: str, works_with_batch: int | None, weights: dict[str, np.ndarray]
) -> list[onnx.NodeProto]:
    if ending == "map":
        return [helper.make_node("Identity", ["map"], ["features"], "end")]
    if ending == "tokens":
        weights["tokens_shape"] = np.array([0, CHANNELS, -1], np.int64)
        return [
            helper.make_node("Reshape", ["map", "tokens_shape"], ["rows"], "rows"),
            helper.make_node("Transpose", ["rows"], ["features"], "end", perm=[0, 2, 1]),
        ]
    if ending == "1x1":
        return [helper.make_node("GlobalAveragePool", ["map"], ["features"], "pool")]
    first = 0 if works_with_batch is None else works_with_batch
    weights["vector_shape"] = np.array([first, CHANNELS], np.int64)
    return [
        helper.make_node("GlobalAveragePool", ["map"], ["pooled"], "pool"),
        helper.make_node("Reshape", ["pooled", "vector_shape"], ["vector"], "vector"),
        helper.make_node("MatMul", ["vector", "matrix"], ["features"], "project"),
    ]


def own_answers(path: Path, images: np.ndarray, output: str = "features") -> np.ndarray:
    """Return what the file itself gives in ONNX Runtime for images as it takes them."""
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    feed = {session.get_inputs()[0].name: images}
    for other in session.get_inputs()[1:]:
        feed[other.name] = np.zeros((len(images), DIM), np.float32)
    (found,) = session.run([output], feed)
    return np.asarray(found)
