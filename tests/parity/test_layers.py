"""The search along the graph must name the node that was changed, and the module behind it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from gsp_deploy.errors import DataError, GateError, ModelFileError, UsageError
from gsp_deploy.parity.layers import LayerReport, compare_layers
from gsp_deploy.parity.layers.graph import load_graph, trace


def node_of(model: onnx.ModelProto, module: str) -> onnx.NodeProto:
    """The node that reads the module's weight."""
    return next(
        node
        for node in model.graph.node
        if any(name.startswith(f"{module}.weight") for name in node.input)
    )


def corrupt(source: Path, target: Path, module: str) -> onnx.NodeProto:
    """Write a copy with one weight of one module changed; return its node."""
    model = onnx.load(source)
    node = node_of(model, module)
    weight = next(w for w in model.graph.initializer if w.name == node.input[1])
    values = numpy_helper.to_array(weight).copy()
    values.flat[np.abs(values).argmax()] *= -3
    weight.CopyFrom(numpy_helper.from_array(values, weight.name))
    onnx.save(model, target)
    return node


@pytest.mark.parametrize("reference", ["fp32.onnx", "model.safetensors"])
@pytest.mark.parametrize("precision", ["fp32", "fp16"])
@pytest.mark.parametrize("module", ["backbone.conv1.3", "backbone.layer2.0.conv2"])
def test_the_changed_node_and_its_module_are_named(
    exported: Path,
    photographs: np.ndarray,
    tmp_path: Path,
    reference: str,
    precision: str,
    module: str,
) -> None:
    bad = tmp_path / "bad.onnx"
    node = corrupt(exported / f"{precision}.onnx", bad, module)
    report = compare_layers(exported / reference, bad, photographs)
    assert report.first is not None
    assert report.first.node == node.name
    assert report.first.op == "Conv"
    assert report.first.module.split(" + ")[0] == module
    assert report.largest_growth()[0] == report.first
    with pytest.raises(GateError, match=rf"node {node.name}, Conv \(module {module} \+"):
        report.raise_on_failure()


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
@pytest.mark.parametrize("reference", ["fp32.onnx", "model.safetensors"])
def test_sound_exports_do_not_diverge(
    exported: Path, photographs: np.ndarray, reference: str, precision: str
) -> None:
    report = compare_layers(exported / reference, exported / f"{precision}.onnx", photographs)
    assert report.first is None
    report.raise_on_failure()
    assert len(report.nodes) > 20
    assert report.nodes[-1].value == "embedding"
    if reference == "fp32.onnx" and precision == "fp32":
        assert all(node.error == 0 for node in report.nodes)
    else:
        assert all(node.error > 0 for node in report.nodes if node.value.startswith("getitem"))


def test_errors_are_rms_over_rms(exported: Path, photographs: np.ndarray) -> None:
    """Against values taken out of both graphs by hand."""
    import onnxruntime

    from gsp_deploy.images.normalisation import normalise
    from gsp_deploy.runtime import open_session

    report = compare_layers(exported / "fp32.onnx", exported / "fp16.onnx", photographs)
    with open_session(exported / "fp32.onnx") as session:
        spec = session.info.preprocessing
    assert spec is not None
    value = report.nodes[0].value  # the first convolution: only its weights and input are rounded
    model = onnx.load(exported / "fp32.onnx")
    model.graph.output.append(helper.make_tensor_value_info(value, TensorProto.FLOAT, None))
    runtime = onnxruntime.InferenceSession(model.SerializeToString())
    images = normalise(photographs, spec)
    (expected,) = runtime.run([value], {"images": images})
    for weight in model.graph.initializer:
        low = numpy_helper.to_array(weight).astype(np.float16).astype(np.float32)
        if weight.data_type == TensorProto.FLOAT:
            weight.CopyFrom(numpy_helper.from_array(low, weight.name))
    runtime = onnxruntime.InferenceSession(model.SerializeToString())
    low_images = images.astype(np.float16).astype(np.float32)
    (came,) = runtime.run([value], {"images": low_images})
    came = came.astype(np.float16).astype(np.float32)
    error = np.sqrt(np.square(came - expected).mean() / np.square(expected).mean())
    assert report.nodes[0].error == pytest.approx(error, rel=0.05)


def test_an_overflow_is_found_where_it_happens(
    exported: Path, photographs: np.ndarray, tmp_path: Path
) -> None:
    """Scaled up, one layer's results leave float16's range; its neighbours' weights do not."""
    models = {name: onnx.load(exported / f"{name}.onnx") for name in ("fp32", "fp16")}
    for name, model in models.items():
        node = node_of(model, "backbone.layer1.0.conv1")
        for weight in model.graph.initializer:
            if weight.name == node.input[1]:
                values = numpy_helper.to_array(weight)
                scaled = values.astype(np.float64) * (60000 / float(np.abs(values).max()))
                weight.CopyFrom(numpy_helper.from_array(scaled.astype(values.dtype), weight.name))
        onnx.save(model, tmp_path / f"{name}.onnx")
    report = compare_layers(tmp_path / "fp32.onnx", tmp_path / "fp16.onnx", photographs)
    assert report.first is not None
    assert report.first.module.startswith("backbone.layer1.0.conv1")
    assert report.first.error == np.inf
    assert report.first.non_finite > 0
    json.dumps(report.to_dict(), allow_nan=False)


def test_quantised_values_are_compared_as_they_are_read(
    exported: Path, photographs: np.ndarray, tmp_path: Path
) -> None:
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, quantize_static

    from gsp_deploy.images.normalisation import normalise
    from gsp_deploy.runtime import open_session

    with open_session(exported / "fp32.onnx") as session:
        spec = session.info.preprocessing
    assert spec is not None
    feeds = iter([{"images": normalise(photographs, spec)}])

    class Photographs(CalibrationDataReader):
        def get_next(self) -> dict[str, np.ndarray] | None:
            return next(feeds, None)

    model = onnx.load(exported / "fp32.onnx")
    head = [node.name for node in model.graph.node if node.name.startswith("gsp/")]
    quantize_static(
        exported / "fp32.onnx",
        tmp_path / "int8.onnx",
        Photographs(),
        quant_format=QuantFormat.QDQ,
        per_channel=True,
        nodes_to_exclude=head,
    )
    report = compare_layers(
        exported / "fp32.onnx", tmp_path / "int8.onnx", photographs, threshold=0.4
    )
    backbone = [node for node in report.nodes if node.module.startswith("backbone.")]
    assert len(backbone) > 10
    assert report.first is None
    assert max(node.error for node in backbone) > 1e-3


def test_the_threshold_can_be_given(exported: Path, photographs: np.ndarray) -> None:
    report = compare_layers(
        exported / "fp32.onnx", exported / "fp16.onnx", photographs[:3], threshold=0
    )
    assert report.first == report.nodes[0]
    assert report.images == 3
    assert report.to_dict()["first_divergent"]["node"] == report.nodes[0].node


def test_the_files_stay_as_they_are(exported: Path, photographs: np.ndarray) -> None:
    paths = [exported / "fp32.onnx", exported / "fp16.onnx"]
    before = [path.read_bytes() for path in paths]
    compare_layers(*paths, photographs[:1])
    assert [path.read_bytes() for path in paths] == before


def test_modules_are_named_from_weights_and_from_the_exporters_record(exported: Path) -> None:
    values = {value.node: value for value in trace(load_graph(exported / "fp32.onnx")).values}
    modules = {value.module for value in values.values()}
    assert "backbone.conv1.0 + 1" in modules  # a convolution and the norm beside it
    assert "backbone.layer1.0.act1" in modules
    assert values["gsp/embed"].module == "head.embed"
    assert values["gsp/weights"].module == "head"
    assert "" not in modules


def test_only_an_onnx_file_can_be_the_candidate(exported: Path, photographs: np.ndarray) -> None:
    with pytest.raises(UsageError, match=r"needs an \.onnx as the candidate"):
        compare_layers(exported / "fp32.onnx", exported / "model.safetensors", photographs)


def test_no_image_and_no_common_value_are_errors(
    exported: Path, photographs: np.ndarray, tmp_path: Path
) -> None:
    model = exported / "fp32.onnx"
    with pytest.raises(DataError, match="at least one image"):
        compare_layers(model, model, photographs[:0])
    renamed = onnx.load(model)
    for node in renamed.graph.node:
        node.input[:] = [_renamed(name, renamed) for name in node.input]
        node.output[:] = [_renamed(name, renamed) for name in node.output]
    del renamed.graph.value_info[:]
    for output in list(renamed.graph.output)[1:]:
        renamed.graph.output.remove(output)
    last = renamed.graph.node[-1].output[0]
    renamed.graph.node.append(helper.make_node("Identity", [last], ["embedding"]))
    onnx.save(renamed, tmp_path / "renamed.onnx")
    with pytest.raises(UsageError, match="no inner value in common"):
        compare_layers(model, tmp_path / "renamed.onnx", photographs)


def _renamed(name: str, model: onnx.ModelProto) -> str:
    kept = {weight.name for weight in model.graph.initializer} | {"images", ""}
    return name if name in kept else f"other/{name}"


def test_a_broken_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "broken.onnx"
    path.write_bytes(b"\x08\x0anot a model")
    with pytest.raises(ModelFileError, match=r"broken\.onnx: not a whole ONNX file"):
        load_graph(path)


def test_a_report_without_divergence_has_no_first() -> None:
    report = LayerReport("a.onnx", "b.onnx", 1, 0.1, ())
    assert report.first is None
    assert report.to_dict()["passed"] is True
