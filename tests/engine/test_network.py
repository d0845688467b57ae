"""What TensorRT's parser refuses (with node, operator, reason and hint), and what it accepts."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from gsp_deploy.artifact.onnx_manifest import read_onnx_manifest
from gsp_deploy.engine.api import TensorRT
from gsp_deploy.engine.network import parse_onnx
from gsp_deploy.errors import ModelFileError

FLOAT, HALF = TensorProto.FLOAT, TensorProto.FLOAT16
X = helper.make_tensor_value_info("x", FLOAT, ["batch", 3, 8, 8])
Y = helper.make_tensor_value_info("y", FLOAT, None)


def write(path: Path, *nodes: onnx.NodeProto, weights: tuple = (), domain: str = "") -> Path:
    opsets = [helper.make_opsetid("", 18)]
    if domain:
        opsets.append(helper.make_opsetid(domain, 1))
    graph = helper.make_graph(nodes, "g", [X], [Y], weights)
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=10), path)
    return path


def weight(dtype: int, *shape: int) -> onnx.TensorProto:
    return helper.make_tensor("w", dtype, shape, np.zeros(int(np.prod(shape)), np.float32))


CASES = {
    "custom node": (
        [helper.make_node("Pool", ["x"], ["y"], name="my/pool", domain="some.where")],
        (),
        "node my/pool (Pool): Plugin not found",
        "pass --plugin with its library",
    ),
    "unknown operator": (
        [helper.make_node("Unique", ["x"], ["y"], name="uniq")],
        (),
        "node uniq (Unique): not supported (UNSUPPORTED_NODE)",
        "export another backbone or opset",
    ),
    "channels": (
        [helper.make_node("Conv", ["x", "w"], ["y"], name="conv")],
        (weight(FLOAT, 4, 5, 3, 3),),
        "node conv (Conv): Kernel weight dimension failed to broadcast to input",
        "",
    ),
    "mixed types": (
        [helper.make_node("Conv", ["x", "w"], ["y"], name="conv")],
        (weight(HALF, 4, 3, 3, 3),),
        "`input` type is Float but `kernel` is of type Half",
        "put a Cast where types differ",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_a_refusal_is_one_line_with_node_reason_and_hint(
    case: str, rtx: TensorRT, tmp_path: Path
) -> None:
    nodes, weights, reason, hint = CASES[case]
    path = write(tmp_path / "m.onnx", *nodes, weights=weights, domain="some.where")
    with pytest.raises(ModelFileError) as caught:
        parse_onnx(rtx, path)
    message = str(caught.value)
    assert message.startswith(f"{path}: {rtx.name} cannot parse it: ")
    assert reason in message
    assert hint in message
    assert "\n" not in message
    assert ".cpp" not in message


@pytest.mark.parametrize(
    ("content", "words"), [(b"junk" * 100, "not a whole ONNX file"), (b"", "its graph is empty")]
)
def test_a_file_that_is_not_onnx_is_refused(
    content: bytes, words: str, rtx: TensorRT, tmp_path: Path
) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(content)
    with pytest.raises(ModelFileError, match=words):
        parse_onnx(rtx, path)


def test_a_truncated_export_is_refused(exported, rtx: TensorRT, tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(exported("glyphs-lite0").read_bytes()[:50_000])
    with pytest.raises(ModelFileError, match="not a whole ONNX file"):
        parse_onnx(rtx, path)
    with pytest.raises(ModelFileError, match="not a whole ONNX file"):
        read_onnx_manifest(path)


def test_missing_files_are_reported(rtx: TensorRT, tmp_path: Path) -> None:
    for read in (lambda path: parse_onnx(rtx, path), read_onnx_manifest):
        with pytest.raises(ModelFileError, match="no such model file"):
            read(tmp_path / "gone.onnx")


def test_missing_weights_are_reported(rtx: TensorRT, tmp_path: Path) -> None:
    conv = helper.make_node("Conv", ["x", "w"], ["y"], name="conv")
    path = write(tmp_path / "m.onnx", conv, weights=(weight(FLOAT, 64, 3, 3, 3),))
    model = onnx.load(path)
    for tensor in model.graph.initializer:
        tensor.raw_data = onnx.numpy_helper.to_array(tensor).tobytes()
        tensor.ClearField("float_data")
    onnx.save(model, path, save_as_external_data=True, location="m.data", size_threshold=0)
    (tmp_path / "m.data").unlink()
    with pytest.raises(
        ModelFileError, match=r"Failed to import initializer: w. .*be in the same folder"
    ):
        parse_onnx(rtx, path)


def test_an_accepted_file_has_its_tensors(exported, rtx: TensorRT) -> None:
    parsed = parse_onnx(rtx, exported("glyphs-lite0"))
    assert [(spec.name, spec.dtype, spec.shape) for spec in parsed.inputs] == [
        ("images", "float32", (-1, 3, 112, 112))
    ]
    assert [spec.name for spec in parsed.outputs] == ["embedding"]
    assert len(list(parsed.layers)) == parsed.network.num_layers


def test_the_manifest_is_beside_the_file_or_inside(exported, tmp_path: Path) -> None:
    source = exported("glyphs-lite0")
    beside = read_onnx_manifest(source)
    alone = tmp_path / "alone.onnx"
    alone.write_bytes(source.read_bytes())
    inside = read_onnx_manifest(alone)
    assert beside is not None
    assert inside is not None
    assert inside.certificate == beside.certificate
    assert (
        read_onnx_manifest(write(tmp_path / "f.onnx", helper.make_node("Relu", ["x"], ["y"])))
        is None
    )


def test_a_manifest_of_another_file_is_refused(exported, tmp_path: Path) -> None:
    source, other = exported("glyphs-lite0"), tmp_path / "m.onnx"
    other.write_bytes(source.read_bytes() + b"\0")
    (tmp_path / "m.onnx.json").write_text(source.with_name(source.name + ".json").read_text())
    with pytest.raises(ModelFileError, match=r"is not the file that m.onnx.json describes"):
        read_onnx_manifest(other)
