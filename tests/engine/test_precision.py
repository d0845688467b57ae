"""A network computes in the precision asked for, or an error names the layers (exit code 3)."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from types import SimpleNamespace

import pytest

from gsp_deploy.artifact import FloatLayer, QuantisationRecord
from gsp_deploy.artifact.engine_manifest import PrecisionSummary
from gsp_deploy.artifact.onnx_manifest import read_onnx_manifest
from gsp_deploy.engine import inspector
from gsp_deploy.engine.api import TensorRT
from gsp_deploy.engine.build import build_engine
from gsp_deploy.engine.inspector import check_engine, engine_layers, layer_types, widened
from gsp_deploy.engine.layer_types import check_precision, compute_layers
from gsp_deploy.engine.network import parse_onnx
from gsp_deploy.engine.options import BuildOptions
from gsp_deploy.errors import GateError


def test_a_request_that_yields_float32_names_the_layers(exported, rtx: TensorRT) -> None:
    onnx = exported("glyphs-lite0")
    with pytest.raises(GateError) as caught:
        check_precision(parse_onnx(rtx, onnx), "fp16", read_onnx_manifest(onnx))
    message = str(caught.value)
    assert caught.value.exit_code == 3
    assert "fp16 was asked for, but 33 of 33 layers with weights" in message
    assert "node_Conv_" in message
    assert "(float32)" in message
    assert "and 25 more" in message
    assert "gsp/product" not in message


def test_a_broken_promise_of_the_file_is_noticed_too(exported, rtx: TensorRT) -> None:
    """The manifest says fp16, the graph is float32: as if a conversion had done nothing."""
    onnx = exported("glyphs-lite0")
    manifest = read_onnx_manifest(onnx)
    assert manifest is not None
    with pytest.raises(GateError, match="fp16 was asked for"):
        check_precision(
            parse_onnx(rtx, onnx), None, dataclasses.replace(manifest, precision="fp16")
        )


def test_fp16_where_float32_was_asked_for_is_no_better(exported, rtx: TensorRT) -> None:
    onnx = exported("glyphs-lite0", precision="fp16")
    with pytest.raises(GateError, match=r"fp32 was asked for.*\(float16\)"):
        check_precision(parse_onnx(rtx, onnx), "fp32", read_onnx_manifest(onnx))


def test_a_single_layer_that_was_missed_is_named(exported, rtx: TensorRT, tmp_path: Path) -> None:
    import onnx_ir as ir

    from gsp_deploy.export.lowering import lower_precision

    network = ir.load(exported("glyphs-lite0"))
    missed = next(node.name for node in network.graph if node.op_type == "Conv")
    lower_precision(network, "fp16", takes_part=lambda node: node.name != missed)
    ir.save(network, tmp_path / "m.onnx")
    parsed = parse_onnx(rtx, tmp_path / "m.onnx")
    with pytest.raises(GateError, match=rf"1 of 33 .*: {missed} \(float32\); export"):
        check_precision(parsed, "fp16", None)


def test_layers_that_the_export_kept_on_purpose_are_excused(exported, rtx: TensorRT) -> None:
    onnx = exported("glyphs-lite0")
    manifest = read_onnx_manifest(onnx)
    assert manifest is not None
    parsed = parse_onnx(rtx, onnx)
    everything = dataclasses.replace(manifest, kept_in_float32={"Conv": "no such form"})
    with pytest.raises(GateError, match="33 of 33"):  # nothing at all is in what was asked for
        check_precision(parsed, "fp16", everything)


def test_layers_that_int8_left_in_float32_are_excused(exported, rtx: TensorRT) -> None:
    onnx = exported("glyphs-lite0", precision="fp16")
    manifest, parsed = read_onnx_manifest(onnx), parse_onnx(rtx, onnx)
    assert manifest is not None
    layers = [layer for layer in compute_layers(parsed) if not layer.in_head]
    kept = tuple(FloatLayer("module", layer.name, "Conv", 0.1) for layer in layers)
    record = QuantisationRecord("min-max", "", 33, kept, "MAP@R", "", 1.0, 1.0, 1.0, 0.5, ())
    with pytest.raises(GateError, match=r"int8 was asked for.*\(float16\)"):
        check_precision(parsed, "int8", dataclasses.replace(manifest, quantisation=record))


def test_a_file_that_promises_nothing_is_what_most_of_it_is(exported, rtx: TensorRT) -> None:
    for precision in ("fp32", "fp16"):
        parsed = parse_onnx(rtx, exported("glyphs-lite0", precision=precision))
        assert check_precision(parsed, None, None).asked == precision


def test_nothing_is_built_that_fails_the_check(exported, rtx: TensorRT, tmp_path: Path) -> None:
    options = BuildOptions(targets=("8.6",), precision="bf16")
    with pytest.raises(GateError, match="bf16 was asked for"):
        build_engine(exported("glyphs-lite0"), tmp_path / "a.engine", options)
    assert list(tmp_path.iterdir()) == []


# The words of TensorRT 10 and 11, shortened.
CONV = {
    "Name": "node_Conv_1 + node_Relu_2",
    "LayerType": "CaskConvolution",
    "Inputs": [{"Name": "images", "Format/Datatype": "Row major linear FP16 format"}],
    "Outputs": [{"Name": "relu", "Format/Datatype": "Channel major FP16 format"}],
    "Metadata": "[ONNX Layer: node_Conv_1]\u001e[ONNX Layer: node_Relu_2]",
}
WIDE = {
    "Name": "__myl_Conv_0x12",
    "Inputs": [{"Name": "a", "Format/Datatype": "Row major linear FP32"}],
    "Outputs": [{"Name": "b", "Datatype": "Float"}],
    "Metadata": "[ONNX Layer: node_Conv_12]",
}


def test_the_inspectors_words_are_read() -> None:
    assert layer_types(CONV) == ("float16",)
    assert layer_types(WIDE) == ("float32",)
    assert layer_types({"Name": "names only"}) == ()
    assert layer_types({"Outputs": [{"Format/Datatype": "BFloat16 linear"}]}) == ("bfloat16",)
    assert layer_types({"Outputs": [{"Format/Datatype": "Half"}], "Inputs": ["x"]}) == ("float16",)


def test_layers_that_the_builder_widened_are_found_by_whole_names() -> None:
    low = ["node_Conv_1", "node_Conv_12"]
    assert widened([CONV, WIDE], low, "float16") == ["node_Conv_12"]
    assert widened([CONV], low, "float16") == []
    assert widened([{"Name": "node_Conv_1"}], low, "float16") == []


def _inspected(monkeypatch: pytest.MonkeyPatch, parsed, layers: list[dict]) -> None:
    engine = SimpleNamespace(
        create_engine_inspector=lambda: SimpleNamespace(
            get_engine_information=lambda form: json.dumps({"Layers": layers})
        )
    )
    runtime = SimpleNamespace(deserialize_cuda_engine=lambda plan: engine)
    monkeypatch.setattr(parsed.tensorrt.module, "Runtime", lambda log: runtime)


def test_the_engine_is_inspected_where_it_can_be_loaded(
    exported, rtx: TensorRT, monkeypatch: pytest.MonkeyPatch
) -> None:
    parsed = parse_onnx(rtx, exported("glyphs-lite0", precision="fp16"))
    found = check_precision(parsed, None, None)
    name = compute_layers(parsed)[0].name
    good = {**CONV, "Metadata": f"[ONNX Layer: {name}]"}
    _inspected(monkeypatch, parsed, [good])
    assert check_engine(parsed, b"", found).verified_on == "engine"
    _inspected(monkeypatch, parsed, [good, {**WIDE, "Metadata": f"[ONNX Layer: {name}]"}])
    with pytest.raises(GateError, match=rf"built these layers in float32 .*: {name}$"):
        check_engine(parsed, b"", found)
    _inspected(monkeypatch, parsed, ["names only"])
    assert check_engine(parsed, b"", found) == found


def test_a_plan_that_cannot_be_loaded_is_taken_at_the_networks_word(
    exported, rtx: TensorRT, tmp_path: Path
) -> None:
    parsed = parse_onnx(rtx, exported("glyphs-lite0"))
    assert engine_layers(parsed, b"no plan at all") == []
    found = PrecisionSummary("fp32", "network", {"float32": 1})
    assert inspector.check_engine(parsed, b"no plan", found) == found
