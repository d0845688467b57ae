"""C++ rewrites signed activations as Python does, and leaves every other file alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from int8_network import int8_network

from gsp_deploy.artifact.unsigned import unsign

from .native import Build

LEFT_ALONE, REWRITTEN = "left alone", "rewritten"


def contents(model: onnx.ModelProto) -> tuple[list[bytes], dict[str, list[object]]]:
    """Return the nodes, and the type and values of what is stored."""
    stored = {
        tensor.name: [tensor.data_type, *onnx.numpy_helper.to_array(tensor).ravel().tolist()]
        for tensor in model.graph.initializer
    }
    return [node.SerializeToString(deterministic=True) for node in model.graph.node], stored


def test_it_writes_what_python_writes(sanitized: Build, bundle_of, tmp_path: Path) -> None:
    exported = next(bundle_of(precision="int8", max_drop=99).glob("*.onnx"))
    small = tmp_path / "small.onnx"
    onnx.save(int8_network(), small)
    files = [exported, small]
    assert sanitized.lines("tests/probe", "unsigned", tmp_path, *files) == [REWRITTEN] * 2
    for index, file in enumerate(files):
        expected = unsign(file)
        assert expected is not None
        found = onnx.load(tmp_path / str(index))
        assert contents(found) == contents(onnx.load_from_string(expected))


def test_what_it_leaves_alone(sanitized: Build, tiny_export: str, tmp_path: Path) -> None:
    old, done = int8_network(), tmp_path / "done.onnx"
    old.opset_import[0].version = 11
    onnx.save(old, tmp_path / "old.onnx")
    onnx.save(int8_network(), tmp_path / "small.onnx")
    done.write_bytes(unsign(tmp_path / "small.onnx") or b"")
    files = [Path(tiny_export), tmp_path / "old.onnx", done]
    assert sanitized.lines("tests/probe", "unsigned", tmp_path, *files) == [LEFT_ALONE] * 3


def test_damaged_files_break_nothing(sanitized: Build, tmp_path: Path) -> None:
    """Single bytes changed, and files cut short."""
    whole, draw = int8_network().SerializeToString(), np.random.default_rng(0)
    files = []
    for index in range(400):
        damaged = bytearray(whole[: int(draw.integers(1, len(whole)))] if index % 4 == 0 else whole)
        for _ in range(int(draw.integers(1, 4))):
            damaged[int(draw.integers(0, len(damaged)))] = int(draw.integers(0, 256))
        files.append(tmp_path / f"damaged{index}")
        files[-1].write_bytes(damaged)
    found = sanitized.lines("tests/probe", "unsigned", tmp_path, *files)
    assert set(found) == {LEFT_ALONE, REWRITTEN}
